//! The format of `server.properties`: Java's properties files.
//!
//! ```text
//! # comment            ! comment
//! key=value            key: value           key value
//! long.key = first, \
//!            second    the backslash joins lines; leading blanks of the next one are dropped
//! escapes: \t \n \r \f \uXXXX, and a backslash before anything else stands for that character
//! ```
//!
//! Kafka reads files with Java's parser, so ours takes what that one takes. Order and line numbers are kept for error
//! messages; of a key given twice the last value counts, as in Java.

use std::fmt;

/// One key and its value, with the line it began on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// Line number from 1.
    pub line: usize,
}

/// A line that is not of the format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PropertiesError {
    /// Line number from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

impl fmt::Display for PropertiesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for PropertiesError {}

/// The text of a file: UTF-8, without a byte order mark, or else Java's Latin-1, which takes any bytes.
pub fn decode(bytes: &[u8]) -> String {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// The entries of a file, in order.
pub fn parse(text: &str) -> Result<Vec<Entry>, PropertiesError> {
    let mut entries = Vec::new();
    // A carriage return, a line feed and both together end a line alike.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = text.lines().enumerate();
    while let Some((before, first)) = lines.next() {
        let line = before + 1;
        let mut logical = first.trim_start_matches(BLANKS).to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while ends_in_odd_backslashes(&logical) {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(BLANKS));
        }
        let (key, value) = split(&logical);
        let unescape = |part| unescape(part).map_err(|reason| PropertiesError { line, reason });
        entries.push(Entry { key: unescape(key)?, value: unescape(value)?, line });
    }
    Ok(entries)
}

/// What counts as a blank within a line.
const BLANKS: [char; 3] = [' ', '\t', '\x0c'];

fn ends_in_odd_backslashes(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Splits at the first separator that is not escaped: `=`, `:`, or blanks, with blanks around it.
fn split(line: &str) -> (&str, &str) {
    let mut is_escaped = false;
    let end = line
        .char_indices()
        .find(|(_, c)| {
            let ends = !is_escaped && (matches!(c, '=' | ':') || BLANKS.contains(c));
            is_escaped = !is_escaped && *c == '\\';
            ends
        })
        .map_or(line.len(), |(at, _)| at);
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(BLANKS);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start_matches(BLANKS))
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let mut buffer = [0; 2];
    while let Some(c) = chars.next() {
        let plain = if c != '\\' {
            c
        } else {
            match chars.next() {
                None => break,
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let is_hex = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                    let unit = is_hex.then(|| u16::from_str_radix(&digits, 16).ok()).flatten();
                    units.push(unit.ok_or("\\u needs four hexadecimal digits")?);
                    continue;
                }
                Some(other) => other,
            }
        };
        units.extend_from_slice(plain.encode_utf16(&mut buffer));
    }
    String::from_utf16(&units).map_err(|_| "\\u escapes that are not a character")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str, usize)]) {
        let found: Vec<_> =
            parse(text).unwrap().into_iter().map(|e| (e.key, e.value, e.line)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(k, v, l)| (k.to_string(), v.to_string(), *l)).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn separators_are_equals_colon_and_blanks() {
        check(
            "a=1\nb:2\nc 3\nd\t=\t4\n e = 5 ",
            &[("a", "1", 1), ("b", "2", 2), ("c", "3", 3), ("d", "4", 4), ("e", "5 ", 5)],
        );
        check(
            "listeners=PLAINTEXT://:9092,CONTROLLER://:9093",
            &[("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093", 1)],
        );
        check("a==b", &[("a", "=b", 1)]);
        check("alone", &[("alone", "", 1)]);
    }

    #[test]
    fn comments_and_empty_lines_are_skipped() {
        check("# one\n\n  ! two\na=1 # not a comment\n", &[("a", "1 # not a comment", 4)]);
    }

    #[test]
    fn a_backslash_joins_lines() {
        check("a=1,\\\n   2,\\\r\n 3\nb=4", &[("a", "1,2,3", 1), ("b", "4", 4)]);
        check("a=1\\\\\nb=2", &[("a", "1\\", 1), ("b", "2", 2)]);
        check("a=1\\", &[("a", "1", 1)]);
    }

    #[test]
    fn escapes_are_those_of_java() {
        check("a\\ b\\=c=d\\te\\u00e9\\ud83d\\ude00\\q", &[("a b=c", "d\teé😀q", 1)]);
        assert_eq!(parse("x=1\na=\\u12").unwrap_err().line, 2);
        assert!(parse("a=\\ud83d").is_err());
    }

    #[test]
    fn bytes_of_either_encoding_are_text() {
        assert_eq!(decode(b"\xef\xbb\xbfa=\xc3\xa9"), "a=\u{e9}");
        assert_eq!(decode(b"# caf\xe9\na=1"), "# caf\u{e9}\na=1");
    }

    #[test]
    fn lines_are_counted_whatever_ends_them() {
        check("a=1\r\n\r\nb=2\rc=3\n", &[("a", "1", 1), ("b", "2", 3), ("c", "3", 4)]);
    }
}
