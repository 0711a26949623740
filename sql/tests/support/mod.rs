//! What the tests of this crate share: a throwaway server and scenarios of configuration changes.

pub(crate) mod scenario;
pub(crate) mod server;
