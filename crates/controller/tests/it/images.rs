//! Glance's API as its clients use it: names first, then bytes, over HTTPS.

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Method};
use serde_json::{Value, json};
use whimbrel_api::native::{NewServer, ServerStatus};
use whimbrel_core::instance::Boot;

use crate::{
    cloud::Cloud,
    place::{Place, until},
};

const PATCH_TYPE: &str = "application/openstack-images-v2.1-json-patch";
const CLUSTER: usize = 1 << 16;
/// Of [`content`], by md5sum and sha512sum.
const MD5: &str = "ab9e61411498c5977358f4ba72907b22";
const SHA512: &str = "126afbbbacd74fdbddd7dcc8f1dea47db98b9818c884b289b829c32e7606b447\
                      b3c7d54d30164bef46cb77853b23d10be9e0b41c82e8a3fee36325a8f1019efe";

fn content() -> Vec<u8> {
    (0..1_usize << 20).map(|at| ((at * 7 + at / 251) % 256) as u8).collect()
}

/// An empty qcow2 of 1 MiB, with a big-endian number put at each place.
pub fn qcow2(changes: &[(usize, u64)]) -> Vec<u8> {
    let mut image = vec![0; 4 * CLUSTER];
    image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    let cluster = CLUSTER as u64;
    let header = [(20, 16), (36, 1), (56, 1), (96, 4), (100, 104)];
    for (at, number) in header {
        image[at..at + 4].copy_from_slice(&u32::to_be_bytes(number));
    }
    for (at, number) in [(24, 1 << 20), (40, 3 * cluster), (48, cluster)].iter().chain(changes) {
        image[*at..*at + 8].copy_from_slice(&u64::to_be_bytes(*number));
    }
    image
}

struct Glance<'c> {
    cloud: &'c Cloud,
    token: String,
}

impl Glance<'_> {
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut ask = self.cloud.request(method.clone(), &format!("/image{path}"), &self.token);
        ask = ask.header("Accept", "application/json");
        if let Some(body) = body {
            let content_type = if method == Method::PATCH { PATCH_TYPE } else { "application/json" };
            ask = ask.header("Content-Type", content_type).body(body.to_string());
        }
        let reply = ask.send().await.unwrap();
        (reply.status().as_u16(), reply.json().await.unwrap_or(Value::Null))
    }

    async fn create(&self, fields: Value) -> String {
        let (status, image) = self.call(Method::POST, "/v2/images", Some(fields)).await;
        assert_eq!((status, &image["status"]), (201, &json!("queued")), "{image}");
        image["id"].as_str().unwrap().to_owned()
    }

    async fn named(&self, name: &str, disk_format: &str) -> String {
        let container = if disk_format.starts_with('a') { disk_format } else { "bare" };
        self.create(json!({"name": name, "disk_format": disk_format, "container_format": container})).await
    }

    async fn show(&self, id: &str) -> Value {
        let (status, image) = self.call(Method::GET, &format!("/v2/images/{id}"), None).await;
        assert_eq!(status, 200, "{image}");
        image
    }

    async fn patch(&self, id: &str, changes: Value) -> (u16, Value) {
        self.call(Method::PATCH, &format!("/v2/images/{id}"), Some(changes)).await
    }

    async fn status(&self, method: Method, path: &str) -> u16 {
        self.call(method, path, None).await.0
    }

    fn put(&self, id: &str) -> reqwest::RequestBuilder {
        let path = format!("/image/v2/images/{id}/file");
        self.cloud.request(Method::PUT, &path, &self.token).header("Content-Type", "application/octet-stream")
    }

    async fn upload(&self, id: &str, content: Vec<u8>) -> (u16, String) {
        let reply = self.put(id).header("Accept", "").body(content).send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    }

    async fn download(&self, id: &str, range: Option<&str>) -> reqwest::Response {
        let mut ask = self.cloud.request(Method::GET, &format!("/image/v2/images/{id}/file"), &self.token);
        if let Some(range) = range {
            ask = ask.header("Range", range);
        }
        ask.send().await.unwrap()
    }

    async fn listed(&self, query: &str) -> Vec<String> {
        let (status, list) = self.call(Method::GET, &format!("/v2/images?{query}"), None).await;
        assert_eq!(status, 200, "{query}: {list}");
        list["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap().to_owned()).collect()
    }
}

async fn admin(cloud: &Cloud) -> Glance<'_> {
    Glance { cloud, token: cloud.admin().await }
}

#[tokio::test]
async fn content_goes_up_in_chunks_and_comes_down_as_it_was() {
    let cloud = Cloud::new().await;
    let glance = admin(&cloud).await;
    let id = glance
        .create(json!({"name": "disk", "disk_format": "raw", "container_format": "bare", "os_distro": "debian"}))
        .await;
    assert_eq!(glance.download(&id, None).await.status(), 204, "there is no content yet");
    let chunks =
        content().chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<Result<_, String>>>();
    let reply = glance.put(&id).body(Body::wrap_stream(stream::iter(chunks))).send().await.unwrap();
    assert_eq!(reply.status(), 204);

    let image = glance.show(&id).await;
    for (name, want) in [
        ("status", json!("active")),
        ("size", json!(1 << 20)),
        ("virtual_size", json!(1 << 20)),
        ("checksum", json!(MD5)),
        ("os_hash_algo", json!("sha512")),
        ("os_hash_value", json!(SHA512)),
        ("os_distro", json!("debian")),
        ("visibility", json!("shared")),
    ] {
        assert_eq!(image[name], want, "{name}");
    }
    let whole = glance.download(&id, None).await;
    assert_eq!((whole.status().as_u16(), whole.headers()["content-md5"].to_str().unwrap()), (200, MD5));
    assert!(whole.bytes().await.unwrap() == content(), "the content came back as something else");
    let part = glance.download(&id, Some("bytes=1000-1999")).await;
    assert_eq!(
        (part.status().as_u16(), part.headers()["content-range"].to_str().unwrap()),
        (206, "bytes 1000-1999/1048576")
    );
    assert!(part.bytes().await.unwrap() == content()[1000..2000]);
    let beyond = glance.download(&id, Some("bytes=1048576-")).await;
    assert_eq!(
        (beyond.status().as_u16(), beyond.headers()["content-range"].to_str().unwrap()),
        (416, "bytes */1048576")
    );

    let (status, told) = glance.upload(&id, vec![0; 512]).await;
    assert!(status == 409 && told.contains("has content already"), "{status} {told}");
    assert_eq!(glance.show(&id).await, image, "a refused upload changed something");
    let other = glance.named("qcow2", "qcow2").await;
    assert_eq!(glance.upload(&other, qcow2(&[])).await.0, 204);
    let image = glance.show(&other).await;
    assert_eq!((&image["size"], &image["virtual_size"]), (&json!(4 * CLUSTER), &json!(1 << 20)));
}

#[tokio::test]
async fn an_image_that_lies_is_refused_and_waits_for_a_better_one() {
    let cloud = Cloud::new().await;
    let glance = admin(&cloud).await;
    let stays_queued = async |id: &str| {
        let image = glance.show(id).await;
        assert_eq!(
            (&image["status"], &image["size"], &image["checksum"]),
            (&json!("queued"), &json!(null), &json!(null))
        );
    };
    let check = async |disk_format: &str, content: Vec<u8>, want: &str| {
        let id = glance.named("liar", disk_format).await;
        let (status, told) = glance.upload(&id, content).await;
        assert!(status == 400 && told.contains(want), "{disk_format}: {status} {told} lacks {want}");
        stays_queued(&id).await;
    };
    check("qcow2", vec![0; 4096], "it is raw, not qcow2").await;
    check("raw", qcow2(&[]), "it is qcow2, not raw").await;
    check("ami", qcow2(&[]), "it is qcow2, not raw").await;
    check("qcow2", qcow2(&[(8, 512)]), "needs a backing file").await;
    check("qcow2", qcow2(&[(72, 1 << 2)]), "keeps its data in another file").await;
    check("qcow2", qcow2(&[(24, 1 << 50)]), "L1 table").await;
    check("raw", b"<html>not found</html>".to_vec(), "it is text").await;
    check("raw", Vec::new(), "empty").await;
    check("aki", vec![0; 4096], "no x86 Linux kernel").await;
    check("ari", vec![0; 4096], "no cpio archive").await;

    let id = glance.named("sized", "raw").await;
    for size in ["511", "513", "many"] {
        let reply = glance.put(&id).header("X-OpenStack-Image-Size", size).body(vec![0; 512]).send().await.unwrap();
        assert_eq!(reply.status(), 400, "{size}");
        stays_queued(&id).await;
    }
    let broken = stream::iter([Ok(Bytes::from(vec![0; 512])), Err("the client gives up".to_owned())]);
    assert!(glance.put(&id).body(Body::wrap_stream(broken)).send().await.is_err());
    until("the image to wait again", async || {
        Some(glance.show(&id).await["status"].clone()).filter(|status| status == "queued")
    })
    .await;
    let typed = cloud.request(Method::PUT, &format!("/image/v2/images/{id}/file"), &glance.token);
    let typed = typed.header("Content-Type", "application/json").body(vec![0; 512]).send().await.unwrap();
    assert_eq!(typed.status(), 415);
    let reply = glance.put(&id).header("X-OpenStack-Image-Size", "512").body(vec![0; 512]).send().await.unwrap();
    assert_eq!(reply.status(), 204, "it took no content after a refusal");
    let untold = glance.create(json!({"name": "untold"})).await;
    let (status, told) = glance.upload(&untold, vec![0; 512]).await;
    assert!(status == 400 && told.contains("disk_format, container_format must be set"), "{status} {told}");
    let left: Vec<_> = std::fs::read_dir(cloud.place.dir.path().join("blobs")).unwrap().collect();
    assert_eq!(left.len(), 1, "a refused upload left something: {left:?}");
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let cloud = Cloud::new().await;
    let glance = admin(&cloud).await;
    cloud.place.image("native", &[0; 4096]).await.unwrap();
    for (name, disk_format, tag) in [("a", "raw", "t1"), ("b", "qcow2", "t1"), ("c", "qcow2", "t2")] {
        let fields =
            json!({"name": name, "disk_format": disk_format, "container_format": "bare", "tags": [tag], "k": name});
        glance.create(fields).await;
    }
    let check = async |query: &str, want: &[&str]| assert_eq!(glance.listed(query).await, want, "{query}");
    check("sort=name:asc", &["a", "b", "c", "native"]).await;
    check("sort=created_at:asc", &["native", "a", "b", "c"]).await;
    check("name=b", &["b"]).await;
    check("name=in:a,c&sort=name:asc", &["a", "c"]).await;
    check("tag=t1&disk_format=qcow2", &["b"]).await;
    check("status=active", &["native"]).await;
    check("visibility=public", &["native"]).await;
    check("k=c", &["c"]).await;
    check("size_min=4096", &["native"]).await;
    check("nothing=here", &[]).await;
    assert_eq!(glance.status(Method::GET, "/v2/images?sort_key=k").await, 400);

    let mut seen = Vec::new();
    let mut at = "/v2/images?limit=3&sort=name:asc".to_owned();
    loop {
        let (status, list) = glance.call(Method::GET, &at, None).await;
        assert_eq!(status, 200, "{list}");
        seen.extend(list["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap().to_owned()));
        match list["next"].as_str() {
            Some(next) => at = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ["a", "b", "c", "native"]);
    // A name is no id: clients try it as one first.
    assert_eq!(glance.status(Method::GET, "/v2/images/native").await, 404);
    let id = cloud.place.client.image("native").await.unwrap().id;
    let native = glance.show(&id.to_string()).await;
    let told = ["disk_format", "container_format", "visibility", "owner", "size", "virtual_size", "status"]
        .map(|name| &native[name]);
    assert_eq!(json!(told), json!(["raw", "bare", "public", null, 4096, 4096, "active"]));
    assert_eq!(glance.download(&id.to_string(), None).await.bytes().await.unwrap(), vec![0; 4096]);
}

#[tokio::test]
async fn what_is_said_of_an_image_changes_by_patches() {
    let cloud = Cloud::new().await;
    let glance = admin(&cloud).await;
    let id = glance.named("one", "raw").await;
    let (status, image) = glance
        .patch(
            &id,
            json!([
                {"op": "replace", "path": "/name", "value": "two"},
                {"op": "add", "path": "/os_distro", "value": "debian"},
                {"op": "add", "path": "/os_command_line", "value": "quiet"},
                {"op": "replace", "path": "/min_ram", "value": 64},
                {"op": "replace", "path": "/disk_format", "value": "qcow2"},
            ]),
        )
        .await;
    let told = ["name", "os_distro", "os_command_line", "min_ram", "disk_format"].map(|name| &image[name]);
    assert_eq!((status, json!(told)), (200, json!(["two", "debian", "quiet", 64, "qcow2"])));
    assert_eq!(glance.show(&id).await, image);
    assert_eq!(glance.upload(&id, qcow2(&[])).await.0, 204);

    let before = glance.show(&id).await;
    let check = async |changes: Value, want: u16| {
        let (status, told) = glance.patch(&id, changes.clone()).await;
        assert_eq!(status, want, "{changes}: {told}");
        assert_eq!(glance.show(&id).await, before, "{changes} changed something");
    };
    let replace = |path: &str, value: Value| json!([{"op": "replace", "path": path, "value": value}]);
    check(replace("/size", json!(1)), 403).await;
    check(replace("/disk_format", json!("raw")), 403).await;
    check(replace("/missing", json!("x")), 409).await;
    check(replace("/name", json!(7)), 400).await;
    check(json!([{"op": "replace", "path": "/name", "value": "x"}, {"op": "remove", "path": "/missing"}]), 409).await;
    check(json!({"name": "x"}), 400).await;
    check(json!([]), 200).await;
    let typed = cloud.request(Method::PATCH, &format!("/image/v2/images/{id}"), &glance.token);
    let reply = typed.json(&json!([])).send().await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.headers()["accept-patch"].to_str().unwrap()), (415, PATCH_TYPE));
    let html = reply.text().await.unwrap();
    assert!(html.contains("<h1>415 Unsupported Media Type</h1>") && html.contains(PATCH_TYPE), "{html}");

    let (tag, of_tag) = (json!(["a b"]), format!("/v2/images/{id}/tags/a%20b"));
    assert_eq!(glance.status(Method::PUT, &of_tag).await, 204);
    assert_eq!(glance.show(&id).await["tags"], tag);
    assert_eq!(glance.status(Method::DELETE, &of_tag).await, 204);
    assert_eq!(glance.status(Method::DELETE, &of_tag).await, 404);

    let path = format!("/v2/images/{id}");
    assert_eq!(glance.patch(&id, replace("/protected", json!(true))).await.0, 200);
    assert_eq!(glance.status(Method::DELETE, &path).await, 403);
    assert!(cloud.place.client.delete_image("two").await.is_err(), "the native API deleted a protected image");
    assert_eq!(glance.show(&id).await["status"], "active");
    assert_eq!(glance.patch(&id, replace("/protected", json!(false))).await.0, 200);
    assert_eq!(glance.status(Method::DELETE, &path).await, 204);
    assert_eq!(glance.status(Method::GET, &path).await, 404);
    assert_eq!(glance.status(Method::DELETE, &path).await, 404);
    assert_eq!(glance.upload(&id, vec![0; 512]).await.0, 404);
}

#[tokio::test]
async fn another_projects_image_is_not_there() {
    let cloud = Cloud::new().await;
    let admin = admin(&cloud).await;
    let someone = async |project: &str, user: &str, role: &str| Glance {
        cloud: &cloud,
        token: cloud.someone(&admin.token, project, user, role).await,
    };
    let (alice, bob, reader) = (
        someone("one", "alice", "member").await,
        someone("two", "bob", "member").await,
        someone("one", "eve", "reader").await,
    );
    let id = alice.named("hers", "raw").await;
    let path = format!("/v2/images/{id}");
    let forbidden = [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::PUT, format!("{path}/tags/t")),
        (Method::GET, format!("{path}/members")),
        (Method::GET, format!("{path}/file")),
    ];
    for (method, path) in &forbidden {
        assert_eq!(bob.status(method.clone(), path).await, 404, "{method} {path}");
    }
    assert_eq!(bob.patch(&id, json!([])).await.0, 404);
    assert_eq!(bob.upload(&id, vec![0; 512]).await.0, 404);
    assert_eq!(bob.listed("visibility=all").await, [""; 0]);
    assert_eq!(admin.listed("").await, ["hers"]);
    assert_eq!(reader.listed("").await, ["hers"]);
    assert_eq!(reader.patch(&id, json!([])).await.0, 403, "a reader writes");
    assert_eq!(reader.upload(&id, vec![0; 512]).await.0, 403);
    assert_eq!(reader.status(Method::GET, &format!("{path}/file")).await, 403);
    assert_eq!(reader.call(Method::POST, "/v2/images", Some(json!({}))).await.0, 403);
    let visible = |word: &str| json!([{"op": "replace", "path": "/visibility", "value": word}]);
    assert_eq!(alice.patch(&id, visible("public")).await.0, 403);
    assert_eq!(alice.call(Method::POST, "/v2/images", Some(json!({"visibility": "public"}))).await.0, 403);
    assert_eq!(alice.call(Method::POST, "/v2/images", Some(json!({"owner": "someone"}))).await.0, 403);
    let owner = json!([{"op": "replace", "path": "/owner", "value": "someone"}]);
    assert_eq!(alice.patch(&id, owner).await.0, 403);
    assert_eq!(alice.call(Method::POST, &format!("{path}/members"), Some(json!({"member": "x"}))).await.0, 409);

    assert_eq!(alice.patch(&id, visible("community")).await.0, 200);
    assert_eq!((bob.listed("").await.len(), bob.listed("visibility=community").await.len()), (0, 1));
    assert_eq!(alice.call(Method::POST, &format!("{path}/members"), Some(json!({"member": "x"}))).await.0, 403);
    assert_eq!(bob.status(Method::GET, &path).await, 200);
    assert_eq!(bob.status(Method::DELETE, &path).await, 403);
    assert_eq!(admin.patch(&id, visible("public")).await.0, 200);
    assert_eq!(bob.listed("").await, ["hers"]);
    assert_eq!(bob.patch(&id, visible("private")).await.0, 403);

    assert_eq!(cloud.call(Method::DELETE, "/v3/auth/tokens", Some(&bob.token), None).await.status, 204);
    for (method, path) in &forbidden {
        assert_eq!(bob.status(method.clone(), path).await, 401, "{method} {path} with a token that was taken back");
    }
    assert_eq!(bob.upload(&id, vec![0; 512]).await.0, 401);
    assert_eq!(alice.show(&id).await["status"], "queued");
}

#[tokio::test]
async fn bad_requests_are_refused_and_make_nothing() {
    let cloud = Cloud::new().await;
    let glance = admin(&cloud).await;
    let check = async |body: Value, want: u16| {
        let (status, told) = glance.call(Method::POST, "/v2/images", Some(body.clone())).await;
        assert_eq!(status, want, "{body}: {told}");
        assert!(told["message"].as_str().is_some_and(|message| !message.is_empty()), "{told}");
    };
    check(json!([]), 400).await;
    check(json!({"name": ["x"]}), 400).await;
    check(json!({"unknown": {"nested": true}}), 400).await;
    check(json!({"disk_format": "vmdk"}), 400).await;
    check(json!({"status": "active"}), 403).await;
    check(json!({"owner": "../x"}), 400).await;
    assert_eq!(glance.listed("").await, [""; 0]);
    let id = "0f0f0f0f-0000-4000-8000-000000000001";
    assert_eq!(glance.create(json!({"id": id, "name": "mine"})).await, id);
    check(json!({"id": id}), 409).await;
    assert_eq!(glance.status(Method::GET, "/v2/tasks").await, 404);
    assert_eq!(glance.status(Method::PUT, "/v2/images").await, 405);
    assert_eq!(glance.status(Method::GET, "/v2/schemas/image").await, 200);
    assert_eq!(glance.status(Method::GET, "/v2/schemas/task").await, 404);
    for (path, want) in [("", 300), ("/", 300), ("/versions", 200)] {
        let (status, told) = glance.call(Method::GET, path, None).await;
        assert_eq!((status, &told["versions"][0]["status"]), (want, &json!("CURRENT")), "{path}");
        assert_eq!(told["versions"][0]["links"][0]["href"], format!("{}/image/v2/", cloud.place.url));
    }
}

#[tokio::test]
async fn a_server_boots_from_images_of_its_parts() {
    let cloud = Cloud::new().await;
    let (glance, place) = (admin(&cloud).await, &cloud.place);
    let h1 = place.host("h1").await;
    place.flavor("small", 512, 1).await;
    let part = |at: usize, magic: &[u8]| {
        let mut part = vec![0; 4096];
        part[at..at + magic.len()].copy_from_slice(magic);
        part
    };
    let (kernel, ramdisk, disk) = (part(0x202, b"HdrS"), part(0, b"070701"), part(600, b"data"));
    let mut ids = Vec::new();
    for (name, kind, content) in [("k", "aki", &kernel), ("r", "ari", &ramdisk), ("d", "ami", &disk)] {
        let id = glance.named(name, kind).await;
        assert_eq!(glance.upload(&id, content.clone()).await.0, 204);
        assert_eq!(glance.download(&id, None).await.bytes().await.unwrap(), *content);
        ids.push(id);
    }
    let set = async |name: &str, value: &str| {
        let changes = json!([{"op": "add", "path": format!("/{name}"), "value": value}]);
        assert_eq!(glance.patch(&ids[2], changes).await.0, 200);
    };
    set("kernel_id", &ids[1]).await;
    let refused = boot(place, "s0").await.unwrap_err();
    assert!(refused.detail.contains("no such content") && refused.hint.is_some(), "{refused}");
    set("kernel_id", &ids[0]).await;
    set("ramdisk_id", &ids[1]).await;
    set("os_command_line", "root=/dev/vda").await;
    let server = boot(place, "s1").await.unwrap();
    place.server_is("s1", ServerStatus::Active).await;
    let digest = |content: &[u8]| blake3::hash(content).to_hex().parse().unwrap();
    let want = Boot::Kernel {
        kernel: digest(&kernel),
        ramdisk: Some(digest(&ramdisk)),
        command_line: "root=/dev/vda".to_owned(),
    };
    assert_eq!(h1.told().guests[&server].spec.boot, want);

    // What a server was made of stays when its images go, however old it is.
    for id in &ids {
        assert_eq!(glance.status(Method::DELETE, &format!("/v2/images/{id}")).await, 204);
    }
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(100_000);
    let blobs = place.dir.path().join("blobs");
    for entry in std::fs::read_dir(&blobs).unwrap() {
        std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_modified(old).unwrap();
    }
    let files = || std::fs::read_dir(&blobs).unwrap().count();
    let last = glance.named("last", "raw").await;
    assert_eq!(glance.status(Method::DELETE, &format!("/v2/images/{last}")).await, 204);
    assert_eq!(files(), 3);
    place.client.delete_server("s1").await.unwrap();
    until("the server to be gone", async || place.client.server("s1").await.err()).await;
    let last = glance.named("last", "raw").await;
    assert_eq!(glance.status(Method::DELETE, &format!("/v2/images/{last}")).await, 204);
    assert_eq!(files(), 0, "content that nobody needs stays");
}

async fn boot(place: &Place, server: &str) -> Result<whimbrel_core::id::InstanceId, whimbrel_core::failure::Failure> {
    let new = NewServer {
        name: server.to_owned(),
        flavor: "small".to_owned(),
        image: "d".to_owned(),
        host: None,
        networks: vec!["br0".to_owned()],
        os_command_line: None,
        iothreads: false,
        machine: None,
        config_drive: false,
        user_data: None,
    };
    place.client.create_server(&new).await.map(|server| server.id)
}
