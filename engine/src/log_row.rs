//! Log rows as they come from a provider: the binary COPY format, decoded without copying values.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

/// One row of `sl_log_1` or `sl_log_2`.
///
/// Only the tuple is kept; names and values are found in it when they are wanted. A row so costs one reference to the
/// buffer it was received in, whatever the number of its columns.
#[derive(Debug, Clone)]
pub struct LogRow {
    /// The whole tuple as it came, for forwarding it unchanged.
    pub raw: Bytes,
    /// `log_tableid`; None only for rows that a foreign hand wrote.
    pub table: Option<i32>,
    /// `log_actionseq`.
    pub action: i64,
    /// `log_cmdtype`.
    pub command: u8,
    /// `log_cmdupdncols`: how many of the pairs are changed columns.
    pub changed: usize,
    /// Where `log_tablenspname` is in the tuple.
    schema: Span,
    /// Where `log_tablerelname` is in the tuple.
    relation: Span,
    /// Where the elements of `log_cmdargs` are in the tuple.
    elements: Span,
    /// How many there are.
    count: usize,
}

/// A part of a tuple. Narrow, because a backlog has three of them per row.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Result<Self, DecodeError> {
        let narrow = |place| u32::try_from(place).map_err(|_| error("a row of more than 4 GB"));
        Ok(Self {
            start: narrow(start)?,
            end: narrow(end)?,
        })
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl LogRow {
    /// `log_tablenspname`.
    #[must_use]
    pub fn schema(&self) -> &[u8] {
        &self.raw[self.schema.range()]
    }

    /// `log_tablerelname`.
    #[must_use]
    pub fn relation(&self) -> &[u8] {
        &self.raw[self.relation.range()]
    }

    /// Number of elements of `log_cmdargs`.
    #[must_use]
    pub fn argument_count(&self) -> usize {
        self.count
    }

    /// The elements of `log_cmdargs`, null as None.
    #[must_use]
    pub fn arguments(&self) -> Arguments<'_> {
        Arguments {
            rest: &self.raw[self.elements.range()],
        }
    }

    /// Bytes the row occupies, for bounding buffers.
    #[must_use]
    pub fn size(&self) -> usize {
        self.raw.len() + size_of::<Self>()
    }
}

/// The elements of `log_cmdargs` one by one.
#[derive(Debug, Clone)]
pub struct Arguments<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Arguments<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        // The lengths were checked when the row was decoded; what does not fit ends the list.
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.rest = rest;
            return Some(None);
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Some(value))
    }
}

/// A stream that is not what the log selection returns.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the provider's log could not be read: {what}; is `log_cmdargs` of every row a one-dimensional text array?")]
pub struct DecodeError {
    what: &'static str,
}

fn error(what: &'static str) -> DecodeError {
    DecodeError { what }
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Cuts a stream of CopyData messages into log rows.
#[derive(Debug, Default)]
pub struct Decoder {
    rest: BytesMut,
    header_read: bool,
    finished: bool,
}

impl Decoder {
    /// Takes one message and appends the rows that are complete with it.
    ///
    /// # Errors
    /// [`DecodeError`] if the stream is not binary COPY data of the nine log columns.
    pub fn push(&mut self, chunk: Bytes, rows: &mut Vec<LogRow>) -> Result<(), DecodeError> {
        // The server sends whole rows per message, so carrying a rest over is the exception.
        let mut data = if self.rest.is_empty() {
            chunk
        } else {
            self.rest.extend_from_slice(&chunk);
            self.rest.split().freeze()
        };
        if !self.header_read {
            if data.len() < SIGNATURE.len() + 8 {
                self.rest.extend_from_slice(&data);
                return Ok(());
            }
            if &data[..SIGNATURE.len()] != SIGNATURE {
                return Err(error("not a binary COPY stream"));
            }
            data.advance(SIGNATURE.len() + 4);
            let extension = usize::try_from(data.get_i32()).map_err(|_| error("negative header length"))?;
            if extension > data.len() {
                return Err(error("header extension too long"));
            }
            data.advance(extension);
            self.header_read = true;
        }
        while !self.finished {
            if data.starts_with(&[0xff, 0xff]) {
                data.advance(2);
                self.finished = true;
                break;
            }
            let Some(shape) = parse(&data)? else { break };
            rows.push(shape.take(&mut data));
        }
        if !self.finished {
            self.rest.extend_from_slice(&data);
        }
        Ok(())
    }

    /// Whether the end marker has been seen and nothing is left over.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.finished && self.rest.is_empty()
    }
}

/// The first tuple of some data: its length and what a [`LogRow`] keeps of it.
struct Shape {
    length: usize,
    table: Option<i32>,
    action: i64,
    command: u8,
    changed: usize,
    schema: Span,
    relation: Span,
    elements: Span,
    count: usize,
}

impl Shape {
    fn take(self, data: &mut Bytes) -> LogRow {
        LogRow {
            raw: data.split_to(self.length),
            table: self.table,
            action: self.action,
            command: self.command,
            changed: self.changed,
            schema: self.schema,
            relation: self.relation,
            elements: self.elements,
            count: self.count,
        }
    }
}

/// A column of a tuple, or an element of an array.
enum Column {
    /// Not all of it is there yet.
    Incomplete,
    Null,
    Value(Span),
}

/// A place in a tuple that may end too early.
struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    /// Steps over one column.
    fn column(&mut self) -> Result<Column, DecodeError> {
        let Some(length) = self.data.get(self.at..self.at + 4) else {
            return Ok(Column::Incomplete);
        };
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        let start = self.at + 4;
        if length == -1 {
            self.at = start;
            return Ok(Column::Null);
        }
        let length = usize::try_from(length).map_err(|_| error("negative column length"))?;
        let end = start + length;
        if end > self.data.len() {
            return Ok(Column::Incomplete);
        }
        self.at = end;
        Ok(Column::Value(Span::new(start, end)?))
    }
}

/// Reads the first tuple; None if it is not complete yet.
fn parse(data: &[u8]) -> Result<Option<Shape>, DecodeError> {
    let Some(count) = data.get(..2) else { return Ok(None) };
    if i16::from_be_bytes([count[0], count[1]]) != 9 {
        return Err(error("a row does not have nine columns"));
    }
    let mut cursor = Cursor { data, at: 2 };
    let mut columns = [None; 9];
    for column in &mut columns {
        match cursor.column()? {
            Column::Value(span) => *column = Some(span),
            Column::Null => {}
            Column::Incomplete => return Ok(None),
        }
    }
    let [
        _origin,
        _txid,
        table,
        action,
        schema,
        relation,
        command,
        changed,
        arguments,
    ] = columns;
    let bytes = |span: Span| &data[span.range()];
    let table = table.map(|span| int4(bytes(span))).transpose()?;
    let action = action.ok_or_else(|| error("log_actionseq is null"))?;
    let action = i64::from_be_bytes(
        bytes(action)
            .try_into()
            .map_err(|_| error("log_actionseq is not a bigint"))?,
    );
    let command = command
        .and_then(|span| bytes(span).first().copied())
        .ok_or_else(|| error("log_cmdtype is null"))?;
    let changed = changed.map(|span| int4(bytes(span))).transpose()?.unwrap_or(0);
    let changed = usize::try_from(changed).map_err(|_| error("log_cmdupdncols is negative"))?;
    let (elements, count) = match arguments {
        Some(span) => text_array(data, span)?,
        None => (Span::default(), 0),
    };
    Ok(Some(Shape {
        length: cursor.at,
        table,
        action,
        command,
        changed,
        schema: schema.unwrap_or_default(),
        relation: relation.unwrap_or_default(),
        elements,
        count,
    }))
}

fn int4(bytes: &[u8]) -> Result<i32, DecodeError> {
    Ok(i32::from_be_bytes(
        bytes
            .try_into()
            .map_err(|_| error("an integer column is not an int4"))?,
    ))
}

/// Checks an array and says where its elements are and how many.
fn text_array(data: &[u8], array: Span) -> Result<(Span, usize), DecodeError> {
    let short = || error("an array is too short");
    let Range { start: first, end } = array.range();
    let word = |at: usize| -> Result<i32, DecodeError> {
        let bytes = data[..end].get(at..at + 4).ok_or_else(short)?;
        int4(bytes)
    };
    let dimensions = word(first)?;
    // Flags and element type.
    word(first + 8)?;
    match dimensions {
        0 => return Ok((Span::default(), 0)),
        1 => {}
        _ => return Err(error("an array has several dimensions")),
    }
    let count = usize::try_from(word(first + 12)?).map_err(|_| error("negative array length"))?;
    // The lower bound.
    word(first + 16)?;
    let start = first + 20;
    let mut cursor = Cursor {
        data: &data[..end],
        at: start,
    };
    for _ in 0..count {
        if matches!(cursor.column()?, Column::Incomplete) {
            return Err(short());
        }
    }
    Ok((Span::new(start, cursor.at)?, count))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::BufMut;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn encode(table: i32, action: i64, command: u8, changed: i32, arguments: &[Option<&str>]) -> Bytes {
        let mut out = BytesMut::new();
        let mut put = |bytes: &[u8]| {
            out.put_i32(i32::try_from(bytes.len()).unwrap());
            out.extend_from_slice(bytes);
        };
        let mut array = BytesMut::new();
        array.put_i32(i32::from(!arguments.is_empty()));
        array.put_i32(1);
        array.put_u32(25);
        if !arguments.is_empty() {
            array.put_i32(i32::try_from(arguments.len()).unwrap());
            array.put_i32(1);
        }
        for argument in arguments {
            match argument {
                Some(text) => {
                    array.put_i32(i32::try_from(text.len()).unwrap());
                    array.extend_from_slice(text.as_bytes());
                }
                None => array.put_i32(-1),
            }
        }
        put(&1i32.to_be_bytes());
        put(&700i64.to_be_bytes());
        put(&table.to_be_bytes());
        put(&action.to_be_bytes());
        put(b"public");
        put(b"t");
        put(&[command]);
        put(&changed.to_be_bytes());
        put(&array);
        let mut tuple = BytesMut::new();
        tuple.put_i16(9);
        tuple.extend_from_slice(&out);
        tuple.freeze()
    }

    fn stream(tuples: &[Bytes]) -> Vec<u8> {
        let mut all = SIGNATURE.to_vec();
        all.extend_from_slice(&[0; 8]);
        for tuple in tuples {
            all.extend_from_slice(tuple);
        }
        all.extend_from_slice(&[0xff, 0xff]);
        all
    }

    #[test]
    fn decodes_values_nulls_and_empty_arrays() {
        let tuples = [
            encode(7, 5, b'I', 0, &[Some("a"), None, Some("b"), Some("")]),
            encode(7, 6, b'T', 0, &[]),
        ];
        let (mut decoder, mut rows) = (Decoder::default(), Vec::new());
        decoder.push(stream(&tuples).into(), &mut rows).unwrap();
        assert!(decoder.is_complete());
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].table, rows[0].action, rows[0].command), (Some(7), 5, b'I'));
        let arguments: Vec<Option<&[u8]>> = rows[0].arguments().collect();
        assert_eq!(arguments, [Some(&b"a"[..]), None, Some(b"b"), Some(b"")]);
        assert_eq!((rows[0].schema(), rows[0].relation()), (&b"public"[..], &b"t"[..]));
        assert_eq!(rows[0].raw, tuples[0]);
        assert_eq!((rows[1].argument_count(), rows[1].arguments().count()), (0, 0));
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_gives_the_same_rows(
            texts in proptest::collection::vec(proptest::option::of("[a-c]{0,5}"), 0..6),
            cuts in proptest::collection::vec(0usize..400, 0..8),
        ) {
            let arguments: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
            let all = stream(&[encode(1, 1, b'I', 0, &arguments), encode(1, 2, b'D', 0, &arguments)]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(all.len())).collect();
            cuts.extend([0, all.len()]);
            cuts.sort_unstable();
            let (mut decoder, mut rows) = (Decoder::default(), Vec::new());
            for pair in cuts.windows(2) {
                decoder.push(Bytes::copy_from_slice(&all[pair[0]..pair[1]]), &mut rows).unwrap();
            }
            prop_assert!(decoder.is_complete());
            prop_assert_eq!(rows.len(), 2);
            prop_assert_eq!(rows[1].argument_count(), texts.len());
            let got: Vec<Option<String>> = rows[1].arguments()
                .map(|value| value.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())).collect();
            prop_assert_eq!(got, texts);
        }

        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), header in any::<bool>()) {
            if header {
                let mut all = SIGNATURE.to_vec();
                all.extend_from_slice(&[0; 8]);
                all.append(&mut bytes);
                bytes = all;
            }
            let _ = Decoder::default().push(bytes.into(), &mut Vec::new());
        }
    }
}
