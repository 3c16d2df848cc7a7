//! What a value may be, and in which words it is refused.

use super::{super::super::microversion::Microversion, *};
use serde_json::json;

fn check<T: PartialEq + std::fmt::Debug>(
    read: impl Fn(Input<'static>) -> Result<T, Fault>,
    value: Value,
    want: Result<T, &str>,
) {
    let value: &'static Value = Box::leak(Box::new(value));
    let got = read(Input::body(value, Microversion::FIRST)).map_err(|fault| (fault.status, fault.message));
    assert_eq!(got, want.map_err(|message| (400, message.to_owned())), "{value}");
}

#[test]
fn booleans_are_booleans_or_one_of_the_words() {
    let boolean = |value, want: Option<bool>| {
        let all = "[True, 'True', 'TRUE', 'true', '1', 'ON', 'On', 'on', 'YES', 'Yes', 'yes', False, 'False', 'FALSE', \
                   'false', '0', 'OFF', 'Off', 'off', 'NO', 'No', 'no']";
        let refusal = format!("{} is not one of {all}", literal::quoted(&value));
        check(Input::boolean, value, want.ok_or(&refusal));
    };
    for word in [json!(true), json!("True"), json!("on"), json!("1"), json!("YES")] {
        boolean(word, Some(true));
    }
    for word in [json!(false), json!("False"), json!("off"), json!("0"), json!("no")] {
        boolean(word, Some(false));
    }
    for other in [json!(1), json!(0), json!(null), json!("tRUE"), json!("t"), json!(""), json!([true])] {
        boolean(other, None);
    }
}

#[test]
fn integers_may_be_digits_and_stay_in_their_range() {
    let integer = |value, want| check(|input| input.integer(1..=9), value, want);
    integer(json!(1), Ok(1));
    integer(json!("9"), Ok(9));
    integer(json!("09"), Ok(9));
    integer(json!(0), Err("0 is less than the minimum of 1"));
    integer(json!("10"), Err("10 is greater than the maximum of 9"));
    integer(json!(u64::MAX), Err("18446744073709551615 is greater than the maximum of 9"));
    integer(json!("99999999999999999999"), Err("99999999999999999999 is greater than the maximum of 9"));
    integer(json!("-5"), Err("-5 is less than the minimum of 1"));
    integer(json!("x"), Err("'x' does not match '^-?[0-9]+$'"));
    integer(json!("+1"), Err("'+1' does not match '^-?[0-9]+$'"));
    integer(json!(""), Err("'' does not match '^-?[0-9]+$'"));
    integer(json!(1.5), Err("1.5 is not of type 'integer', 'string'"));
    integer(json!(true), Err("True is not of type 'integer', 'string'"));
    integer(json!(null), Err("None is not of type 'integer', 'string'"));
}

#[test]
fn texts_have_a_length_and_a_form() {
    let text = |value, want: Result<&str, &str>| {
        check(|input| input.text(1..=3).map(str::to_owned), value, want.map(str::to_owned))
    };
    text(json!("äöü"), Ok("äöü"));
    text(json!(""), Err("'' should be non-empty"));
    text(json!("abcd"), Err("'abcd' is too long"));
    text(json!(1), Err("1 is not of type 'string'"));
    let host = |value, want: Result<&str, &str>| check(Input::host, value, want.map(str::to_owned));
    host(json!("cn-1.rack_2"), Ok("cn-1.rack_2"));
    host(json!("cn 1"), Err("'cn 1' does not match '^[a-zA-Z0-9-._]*$'"));
    host(json!(null), Err("None is not of type 'string'"));
    check(|input| input.or_null(Input::host), json!(null), Ok(None));
    check(|input| input.one_of(&["a", "b"]), json!("b"), Ok("b"));
    check(|input| input.one_of(&["a", "b"]), json!("c"), Err("'c' is not one of ['a', 'b']"));
    check(|input| input.one_of(&["a", "b"]), json!(null), Err("None is not one of ['a', 'b']"));
}

#[test]
fn names_are_printable_and_have_no_space_at_their_ends() {
    let rule = "An invalid 'name' value was provided. The name must be: printable characters. Can not start or end with \
                whitespace.";
    let name = |value: &str, want: Result<&str, &str>| check(Input::name, json!(value), want.map(str::to_owned));
    name("web 1", Ok("web 1"));
    name("wäb/1:2", Ok("wäb/1:2"));
    name("", Err("'' should be non-empty"));
    for odd in [" web", "web ", "\u{a0}web", "we\nb", "we\u{0}b", " "] {
        name(odd, Err(rule));
    }
    check(|input| input.name().map(|name| name.len()), json!("x".repeat(255)), Ok(255));
    let long = "x".repeat(256);
    check(|input| input.name().map(|name| name.len()), json!(long), Err(&format!("'{long}' is too long")));
}

#[test]
fn ids_addresses_lists_and_metadata_are_read() {
    let id = "6f70656e-7374-6163-6b20-342065766572";
    check(Input::uuid, json!(id), Ok(Uuid::from_u128(0x6f70656e_7374_6163_6b20_342065766572)));
    check(Input::uuid, json!("1"), Err("'1' is not a 'uuid'"));
    check(Input::ip, json!("::1"), Ok(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])));
    check(Input::ip, json!("1.2.3"), Err("'1.2.3' is not valid under any of the given schemas"));
    check(|input| input.list(2).map(|items| items.len()), json!([1, 2]), Ok(2));
    check(|input| input.list(1).map(|items| items.len()), json!([1, 2]), Err("[1, 2] is too long"));
    check(|input| input.list(1).map(|items| items.len()), json!({}), Err("{} is not of type 'array'"));
    check(Input::metadata, json!({"a.b:c d": ""}), Ok(BTreeMap::from([("a.b:c d".into(), String::new())])));
    let odd = "'a/b' does not match any of the regexes: '^[a-zA-Z0-9-_:. ]{1,255}$'";
    check(Input::metadata, json!({"a/b": "x"}), Err(odd));
    let wrong = "Invalid input for field/attribute a. Value: 1. 1 is not of type 'string'";
    check(Input::metadata, json!({"a": 1}), Err(wrong));
}

#[test]
fn a_query_writes_booleans_more_freely() {
    let check = |text, want| assert_eq!(boolean_word(text), want, "{text}");
    check(" TRUE ", Some(true));
    check("t", Some(true));
    check("n", Some(false));
    check("2", None);
    check("", None);
}
