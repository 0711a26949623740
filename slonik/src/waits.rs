//! Waiting for events to be confirmed: automatically, as `wait for event`, before `drop node` and `merge set`.

mod automatic;
mod event;
mod obstacle;

pub(crate) use automatic::CaughtUpWith;

/// An event that somebody waits for, and a node that has not confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lagging {
    /// Node whose event it is.
    pub(crate) origin: trunkline_grammar::Id,
    /// The event.
    pub(crate) seqno: i64,
    /// Node that has not confirmed it.
    pub(crate) node: trunkline_grammar::Id,
    /// What it has confirmed.
    pub(crate) confirmed: i64,
}
