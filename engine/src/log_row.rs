//! Log rows as they come from a provider: the binary COPY format, decoded without copying values.

use bytes::{Buf, Bytes, BytesMut};

/// One row of `sl_log_1` or `sl_log_2`.
#[derive(Debug, Clone)]
pub struct LogRow {
    /// The whole tuple as it came, for forwarding it unchanged.
    pub raw: Bytes,
    /// `log_tableid`; None only for rows that a foreign hand wrote.
    pub table: Option<i32>,
    /// `log_actionseq`.
    pub action: i64,
    /// `log_tablenspname`.
    pub schema: Bytes,
    /// `log_tablerelname`.
    pub relation: Bytes,
    /// `log_cmdtype`.
    pub command: u8,
    /// `log_cmdupdncols`: how many of the pairs are changed columns.
    pub changed: usize,
    /// `log_cmdargs`.
    pub arguments: Vec<Option<Bytes>>,
}

impl LogRow {
    /// Bytes the row occupies, for bounding buffers.
    #[must_use]
    pub fn size(&self) -> usize {
        self.raw.len() + 64 + self.arguments.len() * 32
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
            let Some(length) = tuple_length(&data)? else { break };
            if length == 2 && data[..2] == [0xff, 0xff] {
                self.finished = true;
                break;
            }
            rows.push(decode(data.split_to(length))?);
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

/// Length of the first tuple, or None if it is not complete yet.
fn tuple_length(data: &[u8]) -> Result<Option<usize>, DecodeError> {
    let Some(count) = data.get(..2) else { return Ok(None) };
    let count = i16::from_be_bytes([count[0], count[1]]);
    if count == -1 {
        return Ok(Some(2));
    }
    if count != 9 {
        return Err(error("a row does not have nine columns"));
    }
    let mut position = 2;
    for _ in 0..count {
        let Some(length) = data.get(position..position + 4) else {
            return Ok(None);
        };
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        position += 4;
        if length > 0 {
            position += usize::try_from(length).map_err(|_| error("negative column length"))?;
        }
    }
    Ok((data.len() >= position).then_some(position))
}

fn decode(raw: Bytes) -> Result<LogRow, DecodeError> {
    let mut data = raw.clone();
    data.advance(2);
    let mut field = || -> Result<Option<Bytes>, DecodeError> { take(&mut data) };
    field()?;
    field()?;
    let table = field()?.map(|bytes| int4(&bytes)).transpose()?;
    let action = field()?.ok_or_else(|| error("log_actionseq is null"))?;
    let action = i64::from_be_bytes(
        action
            .as_ref()
            .try_into()
            .map_err(|_| error("log_actionseq is not a bigint"))?,
    );
    let schema = field()?.unwrap_or_default();
    let relation = field()?.unwrap_or_default();
    let command = field()?
        .and_then(|bytes| bytes.first().copied())
        .ok_or_else(|| error("log_cmdtype is null"))?;
    let changed = field()?.map(|bytes| int4(&bytes)).transpose()?.unwrap_or(0);
    let changed = usize::try_from(changed).map_err(|_| error("log_cmdupdncols is negative"))?;
    let arguments = field()?.map_or_else(|| Ok(Vec::new()), text_array)?;
    Ok(LogRow {
        raw,
        table,
        action,
        schema,
        relation,
        command,
        changed,
        arguments,
    })
}

fn take(data: &mut Bytes) -> Result<Option<Bytes>, DecodeError> {
    if data.len() < 4 {
        return Err(error("a row ends early"));
    }
    let length = data.get_i32();
    if length < 0 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| error("negative length"))?;
    if length > data.len() {
        return Err(error("a row ends early"));
    }
    Ok(Some(data.split_to(length)))
}

fn int4(bytes: &[u8]) -> Result<i32, DecodeError> {
    Ok(i32::from_be_bytes(
        bytes
            .try_into()
            .map_err(|_| error("an integer column is not an int4"))?,
    ))
}

fn text_array(mut data: Bytes) -> Result<Vec<Option<Bytes>>, DecodeError> {
    if data.len() < 12 {
        return Err(error("an array is too short"));
    }
    let dimensions = data.get_i32();
    data.advance(8);
    match dimensions {
        0 => return Ok(Vec::new()),
        1 => {}
        _ => return Err(error("an array has several dimensions")),
    }
    if data.len() < 8 {
        return Err(error("an array is too short"));
    }
    let count = usize::try_from(data.get_i32()).map_err(|_| error("negative array length"))?;
    data.advance(4);
    if count > data.len() / 4 {
        return Err(error("an array is too short"));
    }
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        values.push(take(&mut data)?);
    }
    Ok(values)
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
        assert_eq!(rows[0].arguments[1], None);
        assert_eq!(rows[0].arguments[3].as_deref(), Some(&b""[..]));
        assert_eq!(rows[0].raw, tuples[0]);
        assert!(rows[1].arguments.is_empty());
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
            let got: Vec<Option<String>> = rows[1].arguments.iter()
                .map(|value| value.as_ref().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())).collect();
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
