//! Canonical JSON (JCS, RFC 8785) of strict I-JSON (RFC 7493), and the name of a transaction.
//!
//! Numbers are integers of at most 2^53-1 in size: floats have no place in money, and so every
//! language writes the same bytes. Names are sorted by UTF-16 code units, as RFC 8785 asks.

use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// Arrays and objects inside each other; deeper input is refused, so that parsing can't exhaust the stack.
pub const DEPTH_MAX: usize = 32;
/// Largest integer that every JSON implementation keeps exactly (RFC 7493 section 2.2).
pub const SAFE_INTEGER_MAX: i64 = (1 << 53) - 1;

/// Where the input breaks which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalError {
    /// JSON pointer (RFC 6901) of the offending value.
    pub path: String,
    /// What must hold.
    pub rule: String,
}

impl fmt::Display for CanonicalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", if self.path.is_empty() { "/" } else { &self.path }, self.rule)
    }
}

impl std::error::Error for CanonicalError {}

/// A parsed value; the members of an object are sorted and unique. Texts without escapes stay
/// where they are in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Text(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    Object(Vec<Member<'a>>),
}

pub type Member<'a> = (Cow<'a, str>, Value<'a>);

/// A transaction's names, all out of one parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The whole document in canonical form.
    pub canonical: Vec<u8>,
    /// SHA-256 over the canonical form of everything but the top-level `signature`.
    pub transaction_id: [u8; 32],
    /// What the sender signs: the transaction without `content` and `signature`, with its id as
    /// `transaction_id`, canonical. So the signature binds every public field, and through the id
    /// the content too, and whoever holds only the header can check it.
    pub signing_bytes: Vec<u8>,
    /// The canonical form of `content`, if there is one.
    pub content: Option<Vec<u8>>,
}

/// The canonical bytes of a document.
pub fn canonicalize(document: &[u8]) -> Result<Vec<u8>, CanonicalError> {
    let value = parse(document)?;
    let mut out = Vec::with_capacity(document.len());
    write(&value, &mut out);
    Ok(out)
}

/// Name a transaction.
pub fn name(document: &[u8]) -> Result<Named, CanonicalError> {
    let Value::Object(mut members) = parse(document)? else {
        return Err(CanonicalError { path: String::new(), rule: "is a JSON object".into() });
    };
    let mut canonical = Vec::with_capacity(document.len());
    write_members(members.iter(), &mut canonical);
    let mut unsigned = Vec::with_capacity(document.len());
    write_members(members.iter().filter(|(name, _)| name != "signature"), &mut unsigned);
    let transaction_id: [u8; 32] = Sha256::digest(&unsigned).into();
    let content = members.iter().find(|(name, _)| name == "content").map(|(_, value)| written(value));
    members.retain(|(name, _)| !matches!(name.as_ref(), "content" | "signature" | "transaction_id"));
    let at = members.partition_point(|(name, _)| utf16_order(name, "transaction_id").is_lt());
    members.insert(at, ("transaction_id".into(), Value::Text(hex(&transaction_id).into())));
    let mut signing_bytes = unsigned;
    signing_bytes.clear();
    write_members(members.iter(), &mut signing_bytes);
    Ok(Named { canonical, transaction_id, signing_bytes, content })
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The canonical form of a parsed value.
pub fn written(value: &Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

/// Order by UTF-16 code units, told from UTF-8: only surrogate pairs (which begin above EF in
/// UTF-8, and with D8..DB in UTF-16) come before U+E000..U+FFFF (which begin with EE or EF).
fn utf16_order(left: &str, right: &str) -> Ordering {
    match left.bytes().zip(right.bytes()).find(|(left, right)| left != right) {
        Some((left, right))
            if left.min(right) >= 0xEE && left.max(right) >= 0xF0 && left.min(right) < 0xF0 =>
        {
            right.cmp(&left)
        }
        Some((left, right)) => left.cmp(&right),
        None => left.len().cmp(&right.len()),
    }
}

fn write(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Integer(number) => write_integer(*number, out),
        Value::Text(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => write_members(members.iter(), out),
    }
}

fn write_members<'m, 'a: 'm>(members: impl Iterator<Item = &'m Member<'a>>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

fn write_integer(number: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| ends_a_run(byte)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        match special[0] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            byte => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        rest = &special[1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// What can't stand in a string as it is.
fn ends_a_run(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20
}

/// Parse one I-JSON document strictly.
pub fn parse(document: &[u8]) -> Result<Value<'_>, CanonicalError> {
    let text = std::str::from_utf8(document)
        .map_err(|_| CanonicalError { path: String::new(), rule: "is UTF-8".into() })?;
    let mut parser = Parser { text, at: 0, path: Vec::new() };
    parser.space();
    let value = parser.value()?;
    parser.space();
    if parser.at < text.len() {
        return parser.fail("ends after one JSON value");
    }
    Ok(value)
}

/// Code points that Unicode keeps out of interchange (RFC 7493 section 2.1).
fn is_noncharacter(character: char) -> bool {
    let code = u32::from(character);
    code & 0xFFFE == 0xFFFE || (0xFDD0..=0xFDEF).contains(&code)
}

enum Step<'a> {
    Name(Cow<'a, str>),
    Index(usize),
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    path: Vec<Step<'a>>,
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, rule: &str) -> Result<T, CanonicalError> {
        let path = self.path.iter().fold(String::new(), |path, step| match step {
            Step::Name(name) => path + "/" + &name.replace('~', "~0").replace('/', "~1"),
            Step::Index(index) => format!("{path}/{index}"),
        });
        Err(CanonicalError { path, rule: rule.into() })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: u8, rule: &str) -> Result<(), CanonicalError> {
        if self.peek() == Some(wanted) {
            self.at += 1;
            return Ok(());
        }
        self.fail(rule)
    }

    fn value(&mut self) -> Result<Value<'a>, CanonicalError> {
        if self.path.len() > DEPTH_MAX {
            return self.fail("is nested at most 32 deep");
        }
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for (word, value) in
                    [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))]
                {
                    if self.text[self.at..].starts_with(word) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                self.fail("is JSON (RFC 8259)")
            }
        }
    }

    fn object(&mut self) -> Result<Value<'a>, CanonicalError> {
        self.at += 1;
        let mut members: Vec<Member<'a>> = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.fail("is JSON (RFC 8259): a member's name in quotes");
            }
            let name = self.string()?;
            self.space();
            self.take(b':', "is JSON (RFC 8259): a colon after a name")?;
            self.space();
            self.path.push(Step::Name(name.clone()));
            let value = self.value()?;
            self.path.pop();
            members.push((name, value));
            self.space();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.take(b'}', "is JSON (RFC 8259): a comma or the end of the object")?;
            break;
        }
        if !members.is_sorted_by(|(left, _), (right, _)| utf16_order(left, right).is_lt()) {
            members.sort_by(|(left, _), (right, _)| utf16_order(left, right));
        }
        if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            self.path.push(Step::Name(pair[0].0.clone()));
            return self.fail("is given once (no duplicate names, RFC 7493)");
        }
        Ok(Value::Object(members))
    }

    fn array(&mut self) -> Result<Value<'a>, CanonicalError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            self.space();
            self.path.push(Step::Index(items.len()));
            let item = self.value()?;
            self.path.pop();
            items.push(item);
            self.space();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.take(b']', "is JSON (RFC 8259): a comma or the end of the array")?;
            return Ok(Value::Array(items));
        }
    }

    fn number(&mut self) -> Result<Value<'a>, CanonicalError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let digits = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return self.fail("is an integer, not a float");
        }
        let leading_zero = self.at - digits > 1 && self.text.as_bytes()[digits] == b'0';
        if self.at == digits || leading_zero {
            return self.fail("is JSON (RFC 8259): a number");
        }
        match self.text[start..self.at].parse::<i64>() {
            Ok(number) if number.unsigned_abs() <= SAFE_INTEGER_MAX.unsigned_abs() => {
                Ok(Value::Integer(number))
            }
            _ => self.fail("is an integer of at most 2^53-1 (RFC 7493)"),
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, CanonicalError> {
        self.at += 1;
        let run = self.run()?;
        let mut out = Cow::Borrowed(run);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    if !out.is_ascii() && out.chars().any(is_noncharacter) {
                        return self.fail("has no noncharacter (RFC 7493)");
                    }
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escaped = self.escape()?;
                    let text = out.to_mut();
                    text.push(escaped);
                    text.push_str(self.run()?);
                }
                _ => return self.fail("is JSON (RFC 8259): no control characters in a string"),
            }
        }
    }

    /// Text as it stands, to the next quote, escape or control character.
    fn run(&mut self) -> Result<&'a str, CanonicalError> {
        let rest = &self.text[self.at..];
        match rest.bytes().position(ends_a_run) {
            Some(stop) => {
                self.at += stop;
                Ok(&rest[..stop])
            }
            None => self.fail("is JSON (RFC 8259): a string that ends"),
        }
    }

    fn escape(&mut self) -> Result<char, CanonicalError> {
        let kind = self.peek();
        self.at += 1;
        Ok(match kind {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.code_unit()?;
                let code = if (0xD800..0xDC00).contains(&first) {
                    if !self.text[self.at..].starts_with("\\u") {
                        return self.fail("has no lone surrogate (RFC 7493)");
                    }
                    self.at += 2;
                    let second = self.code_unit()?;
                    if !(0xDC00..0xE000).contains(&second) {
                        return self.fail("has no lone surrogate (RFC 7493)");
                    }
                    0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                } else {
                    first
                };
                match char::from_u32(code) {
                    Some(character) => character,
                    None => return self.fail("has no lone surrogate (RFC 7493)"),
                }
            }
            _ => return self.fail("is JSON (RFC 8259): a known escape"),
        })
    }

    fn code_unit(&mut self) -> Result<u32, CanonicalError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let unit = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match unit {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => self.fail("is JSON (RFC 8259): four hex digits after \\u"),
        }
    }
}

#[cfg(test)]
mod tests;
