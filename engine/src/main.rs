//! slon: serves one node of a cluster.

fn main() -> std::process::ExitCode {
    trunkline_engine::program::main()
}
