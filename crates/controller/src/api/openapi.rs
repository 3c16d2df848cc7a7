//! The OpenAPI document, made from the handlers; the committed copy is compared with it by a test.

use axum::Json;
use utoipa::OpenApi;

use super::{blobs, bootstrap, flavors, hosts, images, join, migrations, servers};

#[derive(OpenApi)]
#[openapi(
    info(title = "Whimbrel controller", description = "The controller's own API, version 1."),
    paths(
        super::version,
        flavors::create,
        flavors::list,
        flavors::show,
        flavors::delete,
        images::create,
        images::list,
        images::show,
        images::delete,
        images::upload,
        blobs::download,
        servers::create,
        servers::plan,
        servers::list,
        servers::show,
        servers::delete,
        servers::start,
        servers::stop,
        migrations::plan,
        migrations::create,
        migrations::list,
        migrations::show,
        migrations::cancel,
        hosts::list,
        hosts::show,
        hosts::heartbeat,
        join::create_token,
        join::join,
        join::renew,
        bootstrap::bootstrap,
    )
)]
struct Document;

pub(super) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/controller-v1.json");
    const UPDATE: &str = "WHIMBREL_UPDATE_OPENAPI";

    #[test]
    fn the_committed_document_is_that_of_the_handlers() {
        let mut now = Document::openapi().to_pretty_json().unwrap();
        now.push('\n');
        if std::env::var_os(UPDATE).is_some() {
            std::fs::create_dir_all(Path::new(COMMITTED).parent().unwrap()).unwrap();
            std::fs::write(COMMITTED, &now).unwrap();
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            now == committed,
            "openapi/controller-v1.json differs from the handlers; with {UPDATE}=1 this test writes it"
        );
    }

    #[test]
    fn every_route_is_in_the_document() {
        let router = include_str!("mod.rs");
        let document = Document::openapi();
        let routes: Vec<&str> = router.split('"').filter(|text| text.starts_with("/v1/")).collect();
        assert!(routes.len() > 15, "{routes:?}");
        for route in routes.into_iter().filter(|route| *route != "/v1/openapi.json") {
            assert!(document.paths.paths.contains_key(route), "{route} is not in the document");
        }
    }
}
