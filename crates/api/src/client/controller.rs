//! Client of the controller's own API; see the table in [`crate::native`].

use std::{path::Path, time::Duration};

use reqwest::Method;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::de::DeserializeOwned;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{HostName, ImageDigest, MigrationId},
};

use super::{
    content,
    transport::{Transport, http_client, segment},
};
use crate::{
    agent::Heartbeat,
    native::{
        Bootstrap, Bootstrapped, Flavor, Host, Image, ImagePart, Join, JoinToken, Joined, Migration, NewFlavor,
        NewImage, NewJoinToken, NewMigration, NewServer, PAGE_MAX, Page, Plan, Renew, Server, Version,
    },
};

/// Bound of the `…s()` calls that walk all pages.
const PAGES_MAX: usize = 1_000;
/// A controller that takes longer is as good as away.
const HEARTBEAT_TIME_MAX: Duration = Duration::from_secs(5);
const NO_BODY: Option<&()> = None;

/// Cheap to clone; connections are shared.
#[derive(Clone, Debug)]
pub struct ControllerClient {
    transport: Transport,
}

impl ControllerClient {
    /// For operators: trusts `ca_pem` alone and shows `token`.
    pub fn new(url: &str, ca_pem: &str, token: &str) -> Result<Self, Failure> {
        Ok(ControllerClient { transport: transport(url, trusting(ca_pem)?)?.with_token(token) })
    }

    /// For agents, whose certificate is in `tls`, and for joining hosts, which have none yet.
    pub fn from_tls(url: &str, tls: rustls::ClientConfig) -> Result<Self, Failure> {
        Ok(ControllerClient { transport: transport(url, tls)? })
    }

    /// As [`ControllerClient::from_tls`], to whichever of several controllers answers.
    pub fn of_any(urls: &[impl AsRef<str>], tls: rustls::ClientConfig) -> Result<Self, Failure> {
        let listed: Vec<&str> = urls.iter().map(AsRef::as_ref).collect();
        let hint = format!("is a controller running, and is {} its address?", listed.join(" or "));
        Ok(ControllerClient { transport: Transport::any(http_client(tls)?, urls, "the controller".to_owned(), hint)? })
    }

    /// How many controllers there are to turn to.
    pub fn urls(&self) -> usize {
        self.transport.urls()
    }

    pub fn url(&self) -> &str {
        self.transport.url()
    }

    pub async fn version(&self) -> Result<Version, Failure> {
        self.transport.get("/v1/version").await
    }

    /// The OpenAPI document.
    pub async fn openapi(&self) -> Result<serde_json::Value, Failure> {
        self.transport.get("/v1/openapi.json").await
    }

    pub async fn bootstrap(&self, ask: &Bootstrap) -> Result<Bootstrapped, Failure> {
        self.transport.post("/v1/bootstrap", Some(ask)).await
    }

    pub async fn create_flavor(&self, new: &NewFlavor) -> Result<Flavor, Failure> {
        self.transport.post("/v1/flavors", Some(new)).await
    }

    pub async fn flavors(&self) -> Result<Vec<Flavor>, Failure> {
        self.all("/v1/flavors").await
    }

    pub async fn flavor(&self, id_or_name: &str) -> Result<Flavor, Failure> {
        self.transport.get(&format!("/v1/flavors/{}", segment(id_or_name))).await
    }

    pub async fn delete_flavor(&self, id_or_name: &str) -> Result<(), Failure> {
        self.transport.delete(&format!("/v1/flavors/{}", segment(id_or_name))).await
    }

    pub async fn create_image(&self, new: &NewImage) -> Result<Image, Failure> {
        self.transport.post("/v1/images", Some(new)).await
    }

    pub async fn images(&self) -> Result<Vec<Image>, Failure> {
        self.all("/v1/images").await
    }

    pub async fn image(&self, id_or_name: &str) -> Result<Image, Failure> {
        self.transport.get(&format!("/v1/images/{}", segment(id_or_name))).await
    }

    pub async fn delete_image(&self, id_or_name: &str) -> Result<(), Failure> {
        self.transport.delete(&format!("/v1/images/{}", segment(id_or_name))).await
    }

    /// Streams `file` as a part of the image.
    pub async fn upload_image(&self, id_or_name: &str, part: ImagePart, file: &Path) -> Result<Image, Failure> {
        let path = format!("/v1/images/{}/content/{}", segment(id_or_name), part.as_str());
        let bytes = content::upload(&self.transport, &path, file).await?;
        self.transport.parse(&Method::PUT, &path, &bytes)
    }

    /// Brings the blob to `to`, durable and compared with its digest; its directory must exist. Returns its size.
    pub async fn download_blob(&self, digest: &ImageDigest, to: &Path) -> Result<u64, Failure> {
        content::download(&self.transport, &format!("/v1/blobs/{digest}"), digest, to).await
    }

    pub async fn create_server(&self, new: &NewServer) -> Result<Server, Failure> {
        self.transport.post("/v1/servers", Some(new)).await
    }

    pub async fn servers(&self) -> Result<Vec<Server>, Failure> {
        self.all("/v1/servers").await
    }

    pub async fn server(&self, id_or_name: &str) -> Result<Server, Failure> {
        self.transport.get(&format!("/v1/servers/{}", segment(id_or_name))).await
    }

    /// The server goes as soon as its host has let go of it; until then its status is `deleting`.
    pub async fn delete_server(&self, id_or_name: &str) -> Result<(), Failure> {
        self.transport.delete(&format!("/v1/servers/{}", segment(id_or_name))).await
    }

    pub async fn start_server(&self, id_or_name: &str) -> Result<Server, Failure> {
        self.transport.post(&format!("/v1/servers/{}/start", segment(id_or_name)), NO_BODY).await
    }

    pub async fn stop_server(&self, id_or_name: &str) -> Result<Server, Failure> {
        self.transport.post(&format!("/v1/servers/{}/stop", segment(id_or_name)), NO_BODY).await
    }

    pub async fn plan(&self, server: &str, new: &NewMigration) -> Result<Plan, Failure> {
        self.transport.post(&format!("/v1/servers/{}/plan", segment(server)), Some(new)).await
    }

    pub async fn migrate(&self, server: &str, new: &NewMigration) -> Result<Migration, Failure> {
        self.transport.post(&format!("/v1/servers/{}/migrations", segment(server)), Some(new)).await
    }

    /// Newest first.
    pub async fn migrations(&self) -> Result<Vec<Migration>, Failure> {
        self.all("/v1/migrations").await
    }

    pub async fn migration(&self, id: MigrationId) -> Result<Migration, Failure> {
        self.transport.get(&format!("/v1/migrations/{id}")).await
    }

    pub async fn cancel_migration(&self, id: MigrationId) -> Result<Migration, Failure> {
        self.transport.post(&format!("/v1/migrations/{id}/cancel"), NO_BODY).await
    }

    pub async fn hosts(&self) -> Result<Vec<Host>, Failure> {
        self.all("/v1/hosts").await
    }

    pub async fn host(&self, name: &str) -> Result<Host, Failure> {
        self.transport.get(&format!("/v1/hosts/{}", segment(name))).await
    }

    pub async fn create_join_token(&self, new: &NewJoinToken) -> Result<JoinToken, Failure> {
        self.transport.post("/v1/join-tokens", Some(new)).await
    }

    /// With neither token nor certificate: the secret lets in.
    pub async fn join(&self, join: &Join) -> Result<Joined, Failure> {
        self.transport.post("/v1/join", Some(join)).await
    }

    pub async fn renew(&self, renew: &Renew) -> Result<Joined, Failure> {
        self.transport.post("/v1/renew", Some(renew)).await
    }

    pub async fn heartbeat(&self, host: &HostName, heartbeat: &Heartbeat) -> Result<(), Failure> {
        let path = format!("/v1/hosts/{}/heartbeat", segment(host.as_str()));
        self.transport.empty(Method::PUT, &path, Some(heartbeat), HEARTBEAT_TIME_MAX).await
    }

    async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Failure> {
        let mut items = Vec::new();
        let mut marker = String::new();
        for _ in 0..PAGES_MAX {
            let page: Page<T> = self.transport.get(&format!("{path}?limit={PAGE_MAX}{marker}")).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => marker = format!("&marker={}", segment(&next)),
                None => return Ok(items),
            }
        }
        Err(Failure::new(FailureCode::Internal, format!("{path} has more than {PAGES_MAX} pages of {PAGE_MAX}")))
    }
}

fn transport(url: &str, tls: rustls::ClientConfig) -> Result<Transport, Failure> {
    let hint = format!("is the controller running, and is {url} its address?");
    Transport::new(http_client(tls)?, url, "the controller".to_owned(), hint)
}

/// Trusts `ca_pem` alone.
pub(super) fn trusting(ca_pem: &str) -> Result<rustls::ClientConfig, Failure> {
    let bad_ca = |why: String| {
        Failure::new(FailureCode::BadRequest, format!("the CA certificate cannot be used: {why}"))
            .hint("give the controller's ca.crt, from its state directory")
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| bad_ca(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad_ca(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad_ca("it holds no certificate".to_owned()));
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let tls = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad_ca(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tls)
}
