//! Filters, orders and pages over a handful of images.

use whimbrel_core::image::ImageStatus;

use super::{super::fields::Said, *};

const DAY_US: i64 = 86_400_000_000;

fn image(number: i64, change: &dyn Fn(&mut ImageRecord)) -> ImageRecord {
    let mut image = ImageRecord {
        id: format!("i{number}"),
        said: Said { name: Some(format!("n{number}")), owner: Some("p1".to_owned()), ..Said::default() },
        status: ImageStatus::Queued,
        file_bytes: None,
        virtual_bytes: None,
        md5: None,
        sha512: None,
        created_us: number * DAY_US,
        updated_us: number * DAY_US,
    };
    change(&mut image);
    image
}

fn images() -> Vec<ImageRecord> {
    vec![
        image(1, &|image| {
            image.status = ImageStatus::Active;
            (image.file_bytes, image.virtual_bytes) = (Some(100), Some(1000));
            (image.md5, image.sha512) = (Some("m1".to_owned()), Some("s1".to_owned()));
            image.said.visibility = Visibility::Public;
            image.said.disk_format = Some("raw".to_owned());
            image.said.tags = ["t1", "t2"].map(str::to_owned).into();
        }),
        image(2, &|image| {
            image.status = ImageStatus::Active;
            image.file_bytes = Some(200);
            image.said.name = Some("debian:12, cloud".to_owned());
            image.said.disk_format = Some("qcow2".to_owned());
            image.said.protected = true;
            image.said.tags = ["t1".to_owned()].into();
            image.said.properties = [("os_distro".to_owned(), "debian".to_owned())].into();
        }),
        image(3, &|image| {
            image.said.name = None;
            image.said.owner = Some("p2".to_owned());
            image.said.visibility = Visibility::Community;
            image.said.min_ram_mb = 64;
        }),
        image(4, &|image| image.said.hidden = true),
    ]
}

fn chosen(query: &str) -> Result<Vec<String>, u16> {
    let ask = Ask::parse(Some(query)).map_err(|fault| fault.status)?;
    let chosen = ask.choose(images(), Some("p1")).map_err(|fault| fault.status)?;
    Ok(chosen.images.into_iter().map(|image| image.id).collect())
}

#[test]
fn a_list_has_what_its_filters_say() {
    let check = |query: &str, want: &[&str]| {
        assert_eq!(chosen(query), Ok(want.iter().map(|id| (*id).to_owned()).collect()), "{query}");
    };
    check("", &["i2", "i1"]);
    check("os_hidden=true", &["i4"]);
    check("visibility=community", &["i3"]);
    check("visibility=all", &["i3", "i2", "i1"]);
    check("visibility=public", &["i1"]);
    check("visibility=private", &[]);
    check("name=n1", &["i1"]);
    check("name=n9", &[]);
    check("name=debian:12,%20cloud", &["i2"]);
    check("name=eq:n1", &["i1"]);
    check("name=in:n1,%22debian:12,%20cloud%22", &["i2", "i1"]);
    check("id=in:i1,i9", &["i1"]);
    check("id=in:", &[]);
    check("status=active&disk_format=raw", &["i1"]);
    check("status=in:queued,saving&visibility=all", &["i3"]);
    check("owner=p2&visibility=all", &["i3"]);
    check("owner=p2", &[]);
    check("protected=true", &["i2"]);
    check("protected=False", &["i1"]);
    check("size_min=101", &["i2"]);
    check("size_max=100", &["i1"]);
    check("size=200", &["i2"]);
    check("min_ram=64&visibility=all", &["i3"]);
    check("tag=t1", &["i2", "i1"]);
    check("tag=t1&tag=t2", &["i1"]);
    check("os_distro=debian", &["i2"]);
    check("os_distro=Debian", &[]);
    check("colour=red", &[]);
    check("checksum=m1&os_hash_value=s1", &["i1"]);
    check("checksum=m2", &[]);
    check("member_status=all", &["i2", "i1"]);
    check("created_at=gt:1970-01-02T00:00:00Z", &["i2"]);
    check("created_at=lte:1970-01-02T00:00:00Z", &["i1"]);
    check("updated_at=1970-01-03T00:00:00Z", &["i2"]);
}

#[test]
fn wrong_parameters_are_refused() {
    for query in [
        "limit=-1",
        "limit=many",
        "marker=i9",
        "visibility=none",
        "member_status=x",
        "os_hidden=1",
        "protected=yes",
        "size_min=big",
        "created_at=yesterday",
        "created_at=in:1970-01-02T00:00:00Z",
        "name=gt:a",
        "id=in:%22i1",
        "id=in:%22i1%22x",
        "changes-since=1970-01-02T00:00:00Z",
        "sort_key=colour",
        "sort_dir=up",
        "sort=name:up",
        "sort=name&sort_dir=asc",
        "sort_key=name&sort_dir=asc&sort_dir=desc",
    ] {
        assert_eq!(chosen(query), Err(400), "{query}");
    }
}

#[test]
fn orders_are_said_in_both_ways() {
    let check = |query: &str, want: &[&str]| {
        assert_eq!(chosen(&format!("visibility=all&{query}")).unwrap(), want, "{query}");
    };
    check("sort=name:asc", &["i3", "i2", "i1"]);
    check("sort_key=name&sort_dir=asc", &["i3", "i2", "i1"]);
    check("sort=name", &["i1", "i2", "i3"]);
    check("sort_key=size", &["i2", "i1", "i3"]);
    check("sort=status:asc,created_at:desc", &["i2", "i1", "i3"]);
    check("sort_key=status&sort_key=created_at&sort_dir=asc&sort_dir=asc", &["i1", "i2", "i3"]);
    check("sort_dir=asc", &["i1", "i2", "i3"]);
}

#[test]
fn a_list_is_walked_by_its_markers() {
    let check = |query: &str, want: &[&str], next: Option<&str>| {
        let ask = Ask::parse(Some(query)).unwrap();
        let body = ask.body(&ask.choose(images(), Some("p1")).unwrap());
        let ids: Vec<&str> =
            body["images"].as_array().unwrap().iter().map(|image| image["id"].as_str().unwrap()).collect();
        assert_eq!((ids.as_slice(), body["next"].as_str()), (want, next), "{query}");
        assert_eq!(body["schema"], "/v2/schemas/images");
    };
    check("limit=1&name=in:n1,debian:12", &["i1"], None);
    check("limit=1", &["i2"], Some("/v2/images?limit=1&marker=i2"));
    check("limit=1&marker=i2", &["i1"], None);
    check("limit=2", &["i2", "i1"], None);
    check("limit=0", &[], None);
    check("marker=i1", &[], None);
    check("marker=i4", &["i2", "i1"], None);
    let first = |query| Ask::parse(query).unwrap();
    let of = |ask: Ask| ask.body(&ask.choose(images(), None).unwrap())["first"].clone();
    assert_eq!(of(first(None)), "/v2/images");
    assert_eq!(of(first(Some("tag=a+b&marker=i1"))), "/v2/images?tag=a+b");
}
