//! Waiting on conditions.

use std::time::{Duration, Instant};

/// How long tests wait for what should come within a second or two; generous, machines are slow now and then.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls `condition` until it is met. It returns what it still sees when it is not (`Err("node 2 has 3 rows")`), which is
/// shown when `timeout` has passed.
pub async fn wait_until<C>(what: &str, timeout: Duration, mut condition: C)
where
    C: AsyncFnMut() -> Result<(), String>,
{
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let Err(seen) = condition().await else { return };
        assert!(
            start.elapsed() < timeout,
            "waited {} s for: {what}\nstill: {seen}",
            timeout.as_secs()
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
