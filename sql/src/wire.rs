//! Values on the wire: what was logged as text goes back to the server without being understood here.

use bytes::{BufMut, BytesMut};
use postgres_types::{Format, IsNull, ToSql, Type, to_sql_checked};

type EncodeError = Box<dyn std::error::Error + Sync + Send>;

/// One value in text form, for a parameter of any type: the server's input function reads it.
#[derive(Debug, Clone)]
pub struct TextValue<'a>(pub Option<&'a [u8]>);

impl ToSql for TextValue<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, EncodeError> {
        Ok(match &self.0 {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                IsNull::No
            }
            None => IsNull::Yes,
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// A whole parameter already in its binary or text form.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The bytes of the parameter.
    pub bytes: BytesMut,
    /// Text for array literals, binary otherwise.
    pub text: bool,
}

impl ToSql for Encoded {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, EncodeError> {
        out.extend_from_slice(&self.bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        if self.text { Format::Text } else { Format::Binary }
    }

    to_sql_checked!();
}

/// Builds one array parameter value by value, in the form its column travels in.
#[derive(Debug)]
pub struct ArrayBuilder {
    bytes: BytesMut,
    kind: ArrayKind,
    count: i32,
    has_null: bool,
}

/// Element form of an array parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrayKind {
    /// int2 in binary.
    Int2,
    /// int4 in binary.
    Int4,
    /// int8 in binary.
    Int8,
    /// text in binary.
    Text,
    /// An array literal.
    Literal,
}

/// A logged value that its column cannot hold.
#[derive(Debug, thiserror::Error)]
#[error(
    "the log holds a value of {bytes} bytes where an integer of the subscriber's column type is expected; compare the column types of provider and subscriber"
)]
pub struct NotAnInteger {
    bytes: usize,
}

impl ArrayBuilder {
    /// An empty array.
    #[must_use]
    pub fn new(kind: ArrayKind) -> Self {
        let mut bytes = BytesMut::with_capacity(256);
        if kind == ArrayKind::Literal {
            bytes.put_u8(b'{');
        } else {
            // Header of a one-dimensional array; flags and length are filled in at the end.
            bytes.put_i32(1);
            bytes.put_i32(0);
            bytes.put_u32(match kind {
                ArrayKind::Int2 => Type::INT2.oid(),
                ArrayKind::Int4 => Type::INT4.oid(),
                ArrayKind::Int8 => Type::INT8.oid(),
                ArrayKind::Text | ArrayKind::Literal => Type::TEXT.oid(),
            });
            bytes.put_i32(0);
            bytes.put_i32(1);
        }
        Self {
            bytes,
            kind,
            count: 0,
            has_null: false,
        }
    }

    /// Adds a value in text form.
    ///
    /// # Errors
    /// [`NotAnInteger`] if an integer array is given something else.
    pub fn push(&mut self, value: Option<&[u8]>) -> Result<(), NotAnInteger> {
        if self.kind == ArrayKind::Literal {
            if self.count > 0 {
                self.bytes.put_u8(b',');
            }
            match value {
                None => self.bytes.extend_from_slice(b"NULL"),
                Some(text) => {
                    self.bytes.put_u8(b'"');
                    for byte in text {
                        if matches!(byte, b'"' | b'\\') {
                            self.bytes.put_u8(b'\\');
                        }
                        self.bytes.put_u8(*byte);
                    }
                    self.bytes.put_u8(b'"');
                }
            }
            self.count += 1;
            return Ok(());
        }
        match value {
            None => {
                self.has_null = true;
                self.bytes.put_i32(-1);
            }
            Some(text) => match self.kind {
                ArrayKind::Int2 => {
                    let number: i16 = integer(text)?;
                    self.bytes.put_i32(2);
                    self.bytes.put_i16(number);
                }
                ArrayKind::Int4 => {
                    let number: i32 = integer(text)?;
                    self.bytes.put_i32(4);
                    self.bytes.put_i32(number);
                }
                ArrayKind::Int8 => {
                    let number: i64 = integer(text)?;
                    self.bytes.put_i32(8);
                    self.bytes.put_i64(number);
                }
                ArrayKind::Text | ArrayKind::Literal => {
                    self.bytes
                        .put_i32(i32::try_from(text.len()).map_err(|_| NotAnInteger { bytes: text.len() })?);
                    self.bytes.extend_from_slice(text);
                }
            },
        }
        self.count += 1;
        Ok(())
    }

    /// The finished parameter.
    #[must_use]
    pub fn finish(mut self) -> Encoded {
        if self.kind == ArrayKind::Literal {
            self.bytes.put_u8(b'}');
            return Encoded {
                bytes: self.bytes,
                text: true,
            };
        }
        self.bytes[4..8].copy_from_slice(&i32::from(self.has_null).to_be_bytes());
        self.bytes[12..16].copy_from_slice(&self.count.to_be_bytes());
        Encoded {
            bytes: self.bytes,
            text: false,
        }
    }
}

fn integer<T: std::str::FromStr>(text: &[u8]) -> Result<T, NotAnInteger> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(NotAnInteger { bytes: text.len() })
}

/// Appends one value to a line of `COPY … FROM STDIN` in text form.
pub fn push_copy_text(out: &mut BytesMut, value: Option<&[u8]>) {
    let Some(text) = value else {
        out.extend_from_slice(b"\\N");
        return;
    };
    let mut clean = 0;
    for (index, byte) in text.iter().enumerate() {
        let escape = match byte {
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => continue,
        };
        out.extend_from_slice(&text[clean..index]);
        out.put_u8(b'\\');
        out.put_u8(escape);
        clean = index + 1;
    }
    out.extend_from_slice(&text[clean..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn literals_quote_every_value() {
        let mut array = ArrayBuilder::new(ArrayKind::Literal);
        for value in [Some(&b"a\"b\\c"[..]), None, Some(b"NULL"), Some(b"")] {
            array.push(value).unwrap();
        }
        let encoded = array.finish();
        assert_eq!(&encoded.bytes[..], br#"{"a\"b\\c",NULL,"NULL",""}"#);
        assert!(encoded.text);
    }

    #[test]
    fn integers_are_checked() {
        let mut array = ArrayBuilder::new(ArrayKind::Int4);
        array.push(Some(b"-7")).unwrap();
        array.push(None).unwrap();
        assert!(array.push(Some(b"1.5")).is_err());
        let encoded = array.finish();
        assert_eq!(encoded.bytes.len(), 20 + 8 + 4);
    }

    #[test]
    fn copy_lines_escape_what_the_format_reserves() {
        let mut out = BytesMut::new();
        push_copy_text(&mut out, Some(b"a\tb\\\n\r\x08"));
        push_copy_text(&mut out, None);
        assert_eq!(&out[..], b"a\\tb\\\\\\n\\r\x08\\N");
    }
}
