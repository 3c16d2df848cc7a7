//! The strict reading of one value of a request: its type, its length or range, its form.
//!
//! Ground rules: what Nova takes is taken and nothing else: numbers may come as strings of digits, booleans as one of the words
//! of `WORDS`, names neither begin nor end with a space.
//! Sources: nova, api/validation/parameter_types.py; oslo.utils, `strutils.bool_from_string`; jsonschema's messages.

use std::{collections::BTreeMap, net::IpAddr, ops::RangeInclusive, str::FromStr};

use serde_json::{Number, Value};
use uuid::Uuid;

use super::{super::fault::Fault, fields::Input, literal};

/// Words that stand for a boolean, as they may be written.
const WORDS: &[(bool, &[&str])] = &[
    (true, &["True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes"]),
    (false, &["False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no"]),
];

/// Most of what is stored is a column of this width.
pub const SHORT: RangeInclusive<usize> = 1..=255;
/// The largest integer of a database column.
pub const INTEGER_MAX: i64 = 0x7FFF_FFFF;

const METADATA_KEY: &str = "^[a-zA-Z0-9-_:. ]{1,255}$";
const HOST: &str = "^[a-zA-Z0-9-._]*$";
const DIGITS: &str = "^-?[0-9]+$";
const DECIMAL: &str = r"^[0-9]+(\.[0-9]+)?$";

/// A form that a text must have: the pattern that a refusal quotes, and what it means.
pub struct Form {
    pub pattern: &'static str,
    pub fits: fn(&str) -> bool,
}

pub const HOST_NAME: Form = Form { pattern: HOST, fits: |text| only_of(text, "-._") };
pub const TAG: Form = Form { pattern: "^[^,/]*$", fits: |text| !text.contains([',', '/']) };
pub const PRINTABLE: Form = Form { pattern: "^[printable]*$", fits: |text| text.chars().all(is_printable) };

impl<'a> Input<'a> {
    pub fn text(self, length: RangeInclusive<usize>) -> Result<&'a str, Fault> {
        let text = self.value.as_str().ok_or_else(|| self.wrong_type("'string'"))?;
        let characters = text.chars().count();
        if characters < *length.start() {
            let why = if *length.start() == 1 { "should be non-empty" } else { "is too short" };
            return Err(self.refuse(format_args!("{} {why}", literal::quoted_text(text))));
        }
        if characters > *length.end() {
            return Err(self.refuse(format_args!("{} is too long", literal::quoted_text(text))));
        }
        Ok(text)
    }

    pub fn text_of(self, length: RangeInclusive<usize>, form: &Form) -> Result<String, Fault> {
        let text = self.text(length)?;
        match (form.fits)(text) {
            true => Ok(text.to_owned()),
            false => Err(self.refuse(format_args!("{} does not match '{}'", literal::quoted_text(text), form.pattern))),
        }
    }

    pub fn or_null<T>(self, read: impl FnOnce(Self) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
        if self.is_null() { Ok(None) } else { read(self.or_null_too()).map(Some) }
    }

    pub fn null(self) -> Result<(), Fault> {
        if self.is_null() { Ok(()) } else { Err(self.wrong_type("'null'")) }
    }

    /// What people call a thing.
    pub fn name(self) -> Result<String, Fault> {
        let text = self.text(SHORT)?;
        let edged = text.starts_with(is_space) || text.ends_with(is_space);
        match edged || !text.chars().all(is_printable) {
            true => Err(bad_name("printable characters. Can not start or end with whitespace.")),
            false => Ok(text.to_owned()),
        }
    }

    /// A name whose outer spaces are nobody's fault.
    pub fn trimmed_name(self) -> Result<String, Fault> {
        let name = self.text(SHORT)?.trim();
        match name.is_empty() || !name.chars().all(is_printable) {
            true => Err(bad_name("printable characters with at least one non space character")),
            false => Ok(name.to_owned()),
        }
    }

    /// The name of an availability zone, after which a host may follow behind a colon.
    pub fn zone_name(self) -> Result<String, Fault> {
        let name = self.name()?;
        match name.contains(':') {
            true => Err(bad_name("printable characters except :.Can not start or end with whitespace.")),
            false => Ok(name),
        }
    }

    pub fn host(self) -> Result<String, Fault> {
        self.text_of(SHORT, &HOST_NAME)
    }

    pub fn one_of(self, allowed: &[&'static str]) -> Result<&'static str, Fault> {
        let found = self.value.as_str().and_then(|text| allowed.iter().find(|word| **word == text));
        found.copied().ok_or_else(|| {
            let words: Vec<String> = allowed.iter().map(|word| literal::quoted_text(word)).collect();
            self.refuse(format_args!("{} is not one of [{}]", literal::quoted(self.value), words.join(", ")))
        })
    }

    /// One of the words of a table, as what it stands for.
    pub fn choice<T: Copy>(self, table: &[(&'static str, T)]) -> Result<T, Fault> {
        let words: Vec<&'static str> = table.iter().map(|(word, _)| *word).collect();
        let word = self.one_of(&words)?;
        let found = table.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning);
        found.ok_or_else(|| self.in_no_schema())
    }

    pub fn boolean(self) -> Result<bool, Fault> {
        let word = |text: &str| WORDS.iter().find(|(_, words)| words.contains(&text)).map(|(value, _)| *value);
        match self.value {
            Value::Bool(value) => Some(*value),
            Value::String(text) => word(text),
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        }
        .ok_or_else(|| {
            let words = |(value, words): &(bool, &[&str])| {
                let quoted: Vec<String> = words.iter().map(|word| literal::quoted_text(word)).collect();
                format!("{}, {}", literal::quoted(&Value::Bool(*value)), quoted.join(", "))
            };
            let all: Vec<String> = WORDS.iter().map(words).collect();
            self.refuse(format_args!("{} is not one of [{}]", literal::quoted(self.value), all.join(", ")))
        })
    }

    /// A number, or a string of its digits.
    pub fn integer(self, range: RangeInclusive<i64>) -> Result<i64, Fault> {
        let number = match self.value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => digits(text),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let number = number.ok_or_else(|| match self.value {
            Value::String(text) => {
                self.refuse(format_args!("{} does not match '{DIGITS}'", literal::quoted_text(text)))
            }
            Value::Number(number) if number.is_u64() => self.too_large(*range.end()),
            Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                self.wrong_type("'integer', 'string'")
            }
        })?;
        if number < *range.start() {
            let (value, least) = (literal::plain(self.value), range.start());
            return Err(self.refuse(format_args!("{value} is less than the minimum of {least}")));
        }
        if number > *range.end() {
            return Err(self.too_large(*range.end()));
        }
        Ok(number)
    }

    /// A JSON number, where one is taken besides a text.
    pub fn number(self) -> Option<&'a Number> {
        self.value.as_number()
    }

    /// A number with or without a fraction, or a string of one; never negative.
    pub fn decimal(self) -> Result<f64, Fault> {
        match self.value {
            Value::Number(number) => Ok(number.as_f64().unwrap_or(f64::INFINITY)),
            Value::String(text) => decimal(text)
                .ok_or_else(|| self.refuse(format_args!("{} does not match '{DECIMAL}'", literal::quoted_text(text)))),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                Err(self.wrong_type("'number', 'string'"))
            }
        }
    }

    fn too_large(self, most: i64) -> Fault {
        self.refuse(format_args!("{} is greater than the maximum of {most}", literal::plain(self.value)))
    }

    pub fn uuid(self) -> Result<Uuid, Fault> {
        let text = self.text(0..=usize::MAX)?;
        Uuid::try_parse(text).map_err(|_| self.not_a("uuid"))
    }

    pub fn ip(self) -> Result<IpAddr, Fault> {
        self.text(0..=usize::MAX)?.parse().map_err(|_| self.in_no_schema())
    }

    /// An address of the one kind that `T` is, under jsonschema's name for it.
    pub fn address<T: FromStr>(self, kind: &str) -> Result<T, Fault> {
        self.text(0..=usize::MAX)?.parse().map_err(|_| self.not_a(kind))
    }

    /// Text in base64, kept as it is.
    pub fn base64(self, most: usize) -> Result<String, Fault> {
        let text = self.text(0..=most)?;
        if is_base64(text) { Ok(text.to_owned()) } else { Err(self.not_a("base64")) }
    }

    /// A refusal where several schemas were possible.
    pub fn in_no_schema(self) -> Fault {
        self.refuse(format_args!("{} is not valid under any of the given schemas", literal::quoted(self.value)))
    }

    fn not_a(self, what: &str) -> Fault {
        self.refuse(format_args!("{} is not a '{what}'", literal::quoted(self.value)))
    }

    pub fn list(self, most: usize) -> Result<Vec<Input<'a>>, Fault> {
        let items = self.value.as_array().ok_or_else(|| self.wrong_type("'array'"))?;
        if items.len() > most {
            return Err(self.refuse(format_args!("{} is too long", literal::quoted(self.value))));
        }
        Ok(items.iter().enumerate().map(|(index, value)| self.item(index, value)).collect())
    }

    /// Free keys with short texts.
    pub fn metadata(self) -> Result<BTreeMap<String, String>, Fault> {
        self.metadata_of(|value| value.text(0..=255).map(str::to_owned))
    }

    /// Free keys whose values the caller reads.
    pub fn metadata_of<T>(self, read: impl Fn(Input<'a>) -> Result<T, Fault>) -> Result<BTreeMap<String, T>, Fault> {
        let object = self.any_object()?;
        let odd: Vec<&str> = object.entries().map(|(name, _)| name).filter(|name| !is_metadata_key(name)).collect();
        if let Some(first) = odd.first() {
            let (do_not, names) = match odd.as_slice() {
                [_] => ("does not match any of the regexes", literal::quoted_text(first)),
                several => {
                    let names: Vec<String> = several.iter().map(|name| literal::quoted_text(name)).collect();
                    ("do not match any of the regexes", names.join(", "))
                }
            };
            return Err(self.refuse(format_args!("{names} {do_not}: '{METADATA_KEY}'")));
        }
        object.entries().map(|(name, value)| Ok((name.to_owned(), read(value)?))).collect()
    }
}

fn bad_name(rule: &str) -> Fault {
    Fault::new(400, format!("An invalid 'name' value was provided. The name must be: {rule}"))
}

/// A boolean as a query writes it; `None` is no word for one.
pub fn boolean_word(text: &str) -> Option<bool> {
    let folded = text.trim().to_ascii_lowercase();
    match folded.as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Some(false),
        _ => None,
    }
}

pub(super) fn only_of(text: &str, others: &str) -> bool {
    text.chars().all(|character| character.is_ascii_alphanumeric() || others.contains(character))
}

fn is_metadata_key(text: &str) -> bool {
    SHORT.contains(&text.len()) && only_of(text, "-_:. ")
}

/// More digits than a number has room for count as the largest, so that the range refuses them.
fn digits(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let are_digits = !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit());
    let beyond = if unsigned.len() < text.len() { i64::MIN } else { i64::MAX };
    are_digits.then(|| text.parse().unwrap_or(beyond))
}

fn decimal(text: &str) -> Option<f64> {
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = match text.split_once('.') {
        Some((whole, fraction)) => are_digits(whole) && are_digits(fraction),
        None => are_digits(text),
    };
    well_formed.then(|| text.parse().ok()).flatten()
}

/// Whole groups of four, line breaks aside, padded at the end only.
fn is_base64(text: &str) -> bool {
    let characters: Vec<char> = text.chars().filter(|character| !character.is_ascii_whitespace()).collect();
    let padded = characters.iter().rev().take_while(|character| **character == '=').count();
    let (data, _) = characters.split_at(characters.len() - padded);
    let known = |character: &char| character.is_ascii_alphanumeric() || matches!(character, '+' | '/');
    characters.len().is_multiple_of(4) && padded <= 2 && data.iter().all(known)
}

fn is_printable(character: char) -> bool {
    !character.is_control() && !matches!(character, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{feff}')
}

fn is_space(character: char) -> bool {
    character.is_whitespace()
}

#[cfg(test)]
mod tests;
