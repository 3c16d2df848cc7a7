//! JSON values as Python writes them, since a refusal quotes the value that it refuses.
//!
//! Source: nova, api/validation/validators.py; jsonschema's messages.

use serde_json::Value;

/// As `repr` writes it: strings in quotes.
pub fn quoted(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted_text(text),
        Value::Array(items) => format!("[{}]", items.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{}: {}", quoted_text(key), quoted(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

/// As `str` writes it: a string by itself is bare.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => quoted(value),
    }
}

pub fn quoted_text(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut written = String::from(quote);
    for character in text.chars() {
        match character {
            '\\' => written.push_str("\\\\"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            _ if character == quote => written.extend(['\\', quote]),
            _ if character.is_ascii_control() => written.push_str(&format!("\\x{:02x}", u32::from(character))),
            _ => written.push(character),
        }
    }
    written.push(quote);
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_written_as_python_writes_them() {
        let check = |value: Value, want_quoted: &str, want_plain: &str| {
            assert_eq!((quoted(&value).as_str(), plain(&value).as_str()), (want_quoted, want_plain));
        };
        check(json!(null), "None", "None");
        check(json!(true), "True", "True");
        check(json!(-1), "-1", "-1");
        check(json!("x"), "'x'", "x");
        check(json!("it's"), "\"it's\"", "it's");
        check(json!("it's \"so\""), "'it\\'s \"so\"'", "it's \"so\"");
        check(json!("a\n\u{7}"), "'a\\n\\x07'", "a\n\u{7}");
        check(json!([false, "x", {"k": null}]), "[False, 'x', {'k': None}]", "[False, 'x', {'k': None}]");
    }
}
