//! Reader of slon's configuration file: one `name [=] value` per line, `#` comments.
//!
//! A value is a number, a bare word, or text in single or double quotes with the escapes `\b \f \n \r \t \ooo` and
//! `\` before any other character for that character. All findings of a file are reported together.

/// One setting of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Line in the file, from 1.
    pub line: usize,
    /// Name as written.
    pub name: String,
    /// Value with quotes and escapes resolved.
    pub value: String,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct SyntaxError {
    /// The file as named by the user.
    pub file: String,
    /// Line in the file, from 1.
    pub line: usize,
    /// What is wrong and how to write it.
    pub problem: String,
}

/// Reads the text of a file; `file` is its name for messages.
pub fn read(file: &str, text: &str) -> Result<Vec<Setting>, Vec<SyntaxError>> {
    let mut settings = Vec::new();
    let mut errors = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        match read_line(line) {
            Ok(Some((name, value))) => settings.push(Setting {
                line: number,
                name,
                value,
            }),
            Ok(None) => {}
            Err(problem) => errors.push(SyntaxError {
                file: file.to_owned(),
                line: number,
                problem,
            }),
        }
    }
    if errors.is_empty() { Ok(settings) } else { Err(errors) }
}

fn read_line(line: &str) -> Result<Option<(String, String)>, String> {
    let line = line.trim_start();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let name_end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(line.len());
    let (name, rest) = line.split_at(name_end);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return Err(format!("expected `name = value`, found `{}`", line.trim_end()));
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        return Err(format!(
            "parameter `{name}` has no value; write `{name} = value`, or '' for an empty text"
        ));
    }
    let (value, rest) = if let Some(quote @ ('\'' | '"')) = rest.chars().next() {
        quoted(name, &rest[1..], quote)?
    } else {
        let end = rest
            .find(|c: char| c.is_whitespace() || matches!(c, '#' | '\'' | '"'))
            .unwrap_or(rest.len());
        (rest[..end].to_owned(), &rest[end..])
    };
    let rest = rest.trim();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(Some((name.to_owned(), value)))
    } else {
        Err(format!(
            "unexpected `{rest}` behind the value of `{name}`; put a value with blanks in 'single quotes'"
        ))
    }
}

/// Reads up to the closing quote; gives the text and what follows the quote.
fn quoted<'a>(name: &str, text: &'a str, quote: char) -> Result<(String, &'a str), String> {
    let mut bytes = Vec::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        if character == quote {
            let value = String::from_utf8(bytes).map_err(|_| format!("the value of `{name}` is not UTF-8"))?;
            return Ok((value, &text[position + 1..]));
        }
        if character != '\\' {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match characters.next() {
            Some((_, 'b')) => bytes.push(8),
            Some((_, 'f')) => bytes.push(12),
            Some((_, 'n')) => bytes.push(b'\n'),
            Some((_, 'r')) => bytes.push(b'\r'),
            Some((_, 't')) => bytes.push(b'\t'),
            Some((start, '0'..='7')) => {
                let digits = text[start..]
                    .bytes()
                    .take(3)
                    .take_while(|digit| (b'0'..=b'7').contains(digit))
                    .count();
                for _ in 1..digits {
                    characters.next();
                }
                let value = u32::from_str_radix(&text[start..start + digits], 8).unwrap_or(0);
                bytes.push(
                    u8::try_from(value).map_err(|_| format!("octal escape in the value of `{name}` is above \\377"))?,
                );
            }
            Some((_, other)) => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            None => break,
        }
    }
    Err(format!("the value of `{name}` has no closing {quote}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        read("slon.conf", text)
            .unwrap()
            .into_iter()
            .map(|s| (s.line, s.name, s.value))
            .collect()
    }

    fn pair(line: &str) -> (String, String) {
        let (_, name, value) = pairs(line).remove(0);
        (name, value)
    }

    #[test]
    fn names_values_comments_and_blank_lines() {
        let text =
            "# a comment\n\nvac_frequency=3\n  Sync_Interval  1000   # often\ncluster_name = 'my cluster'\nlog_pid yes";
        assert_eq!(
            pairs(text),
            [
                (3, "vac_frequency".to_owned(), "3".to_owned()),
                (4, "Sync_Interval".to_owned(), "1000".to_owned()),
                (5, "cluster_name".to_owned(), "my cluster".to_owned()),
                (6, "log_pid".to_owned(), "yes".to_owned()),
            ]
        );
        assert_eq!(pairs("a=1\r\nb=2\r\n").len(), 2);
    }

    #[test]
    fn bare_words_hold_paths_and_numbers() {
        assert_eq!(pair("pid_file=/var/run/slon.pid").1, "/var/run/slon.pid");
        assert_eq!(pair("log_level = -1").1, "-1");
        assert_eq!(pair("sync_interval=0x10").1, "0x10");
        assert_eq!(pair("cleanup_interval=10").1, "10");
    }

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(
            pair(r"conn_info='host=a password=\'x y\' dbname=d'").1,
            "host=a password='x y' dbname=d"
        );
        assert_eq!(pair(r#"conn_info="host='a # b'""#).1, "host='a # b'");
        assert_eq!(pair(r"a='\t\101\\\060x'").1, "\tA\\0x");
        assert_eq!(pair(r"a='\303\244'").1, "ä");
        assert_eq!(pair("a=''").1, "");
    }

    #[test]
    fn all_bad_lines_are_named() {
        let errors = read(
            "etc/slon.conf",
            "ok = 1\n= 3\ncleanup_interval=10 minutes\nx = 'open\nname\n",
        )
        .unwrap_err();
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "etc/slon.conf:2: expected `name = value`, found `= 3`",
                "etc/slon.conf:3: unexpected `minutes` behind the value of `cleanup_interval`; \
                 put a value with blanks in 'single quotes'",
                "etc/slon.conf:4: the value of `x` has no closing '",
                "etc/slon.conf:5: parameter `name` has no value; write `name = value`, or '' for an empty text",
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = read("f", &text);
        }

        #[test]
        fn quoted_text_comes_back(value in "[^\\\\'\r\n]*") {
            proptest::prop_assert_eq!(pair(&format!("a = '{value}'")).1, value);
        }
    }
}
