//! Source texts and positions in them.

/// A place in a script: which text, which bytes, which line.
///
/// A script is made of several texts (the file itself, what it includes, the text of a `define`);
/// `source` is the index of the text in the [`SourceMap`](crate::SourceMap).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Index of the text in the source map.
    pub source: u32,
    /// First byte.
    pub start: u32,
    /// Byte after the last one.
    pub end: u32,
    /// Line of the first byte, counted from 1.
    pub line: u32,
}
