//! Which rows of a table apply, and where links lead.

use super::{seen::*, *};

type Row = Field<Option<u8>>;

const TABLE: &[Row] = &[
    Row::new("a", |_, _| json!(1)),
    Row::new("b", |_, _| json!("text")).until(4),
    Row::new("b", |_, _| json!(2)).since(5),
    Row::maybe("c", |record, _| record.map(|value| json!(value))),
    Row::new("d", |_, _| json!("admin")).admin(),
    Row::new("d", |_, _| json!("all")).member().since(9),
];

#[test]
fn a_field_is_there_from_until_and_for_whom_its_row_says() {
    let check = |record: Option<u8>, view: View, want: Value| {
        assert_eq!(object(&[TABLE], &record, &view), want, "{view:?}");
    };
    check(None, member(4), json!({"a": 1, "b": "text"}));
    check(None, member(5), json!({"a": 1, "b": 2}));
    check(Some(3), member(8), json!({"a": 1, "b": 2, "c": 3}));
    check(None, admin(8), json!({"a": 1, "b": 2, "d": "admin"}));
    check(None, admin(9), json!({"a": 1, "b": 2, "d": "admin"}));
    check(None, member(9), json!({"a": 1, "b": 2, "d": "all"}));
}

#[test]
fn links_name_the_version_and_bookmarks_do_not() {
    let view = member(1);
    assert_eq!(
        view.links("servers", "7"),
        json!([
            {"rel": "self", "href": "https://h:1/compute/v2.1/servers/7"},
            {"rel": "bookmark", "href": "https://h:1/compute/servers/7"}
        ])
    );
    let bare = View { base: "https://h:1/v2.1", ..view };
    assert_eq!(bare.bookmark("images", "7")["href"], "https://h:1/images/7");
    let unversioned = View { base: "https://h:1/compute", ..view };
    assert_eq!(unversioned.bookmark("images", "7")["href"], "https://h:1/compute/images/7");
}

#[test]
fn a_page_says_what_follows_only_where_something_does() {
    let view = member(1);
    assert_eq!(view.page("things", "things", vec![json!(1)], None), json!({"things": [1]}));
    let next = json!([{"rel": "next", "href": "https://h:1/compute/v2.1/things/detail?limit=1&marker=x"}]);
    let page = view.page("things", "things/detail", vec![json!(1)], Some("limit=1&marker=x"));
    assert_eq!(page, json!({"things": [1], "things_links": next}));
}
