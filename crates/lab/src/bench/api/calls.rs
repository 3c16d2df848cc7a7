//! The calls that clients make, each timed from its first byte to its last.

use std::{future::Future, time::Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, RequestBuilder};
use rustls::{
    ConfigBuilder, RootCertStore,
    client::WantsClientCert,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::{Value, json};
use whimbrel_api::client::http_client;

use super::{
    cloud::{Cloud, PASSWORD},
    filling::Server,
};

pub(super) const PAGE: usize = 1_000;
pub(super) const LISTS: usize = 40;
pub(super) const SHOWS: usize = 400;
pub(super) const TOKENS: usize = 200;
const LOGINS: usize = 20;
/// The newest microversion shows the most.
const VERSION: &str = "compute 2.96";

/// In order.
pub(super) struct Times(Vec<f64>);

impl Times {
    async fn of<T, Call>(count: usize, mut call: impl FnMut(usize) -> Call) -> Result<(Times, T)>
    where
        Call: Future<Output = Result<T>>,
    {
        // The first one finds nothing prepared.
        let mut last = call(0).await?;
        let mut times = Vec::with_capacity(count);
        for number in 0..count {
            let began = Instant::now();
            last = call(number).await?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok((Times(times), last))
    }

    /// The time that this part of the calls did not exceed, in ms.
    pub(super) fn part(&self, part: f64) -> f64 {
        let at = (self.0.len() as f64 * part).ceil() as usize;
        self.0.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

pub(super) struct Listed {
    pub(super) times: Times,
    pub(super) bytes: usize,
}

pub(super) struct Caller {
    http: Client,
    url: String,
    token: String,
    project: String,
    user: String,
}

impl Caller {
    pub(super) async fn log_in(cloud: &Cloud) -> Result<Caller> {
        let http = http_client(trusting(&cloud.ca_pem)?.with_no_client_auth())?;
        let mut caller =
            Caller { http, url: cloud.url.clone(), token: String::new(), project: String::new(), user: String::new() };
        let (token, body) = caller.issue(&by_password()).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a token without its owner");
        caller.project = text(&body["token"]["project"]["id"])?;
        caller.user = text(&body["token"]["user"]["id"])?;
        caller.token = token;
        Ok(caller)
    }

    pub(super) fn project(&self) -> &str {
        &self.project
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// Pages from the newest to the oldest, and again.
    pub(super) async fn lists(&self, servers: &[Server]) -> Result<Listed> {
        let pages = servers.len() / PAGE;
        let (times, bytes) = Times::of(LISTS, |number| {
            // Newest first: the marker is the last of the page before.
            let marker = servers.len() - number % pages * PAGE;
            let marker = servers.get(marker).map_or(String::new(), |server| format!("&marker={}", server.id));
            let call = self.get(&format!("/servers/detail?limit={PAGE}{marker}"));
            read(call)
        })
        .await?;
        let listed: Value = serde_json::from_slice(&bytes)?;
        let count = listed["servers"].as_array().map_or(0, Vec::len);
        ensure!(count == PAGE, "a page of {count} servers");
        Ok(Listed { times, bytes: bytes.len() })
    }

    pub(super) async fn shows(&self, servers: &[Server]) -> Result<Times> {
        let (times, _) = Times::of(SHOWS, |number| {
            // All over the place.
            let server = &servers[number * 7919 % servers.len()];
            read(self.get(&format!("/servers/{}", server.id)))
        })
        .await?;
        Ok(times)
    }

    pub(super) async fn tokens(&self) -> Result<Times> {
        let ask = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": self.token}},
            "scope": {"project": {"id": self.project}}}});
        Ok(Times::of(TOKENS, |_| self.issue(&ask)).await?.0)
    }

    pub(super) async fn logins(&self) -> Result<Times> {
        let ask = by_password();
        Ok(Times::of(LOGINS, |_| self.issue(&ask)).await?.0)
    }

    async fn issue(&self, ask: &Value) -> Result<(String, Value)> {
        let reply = self.http.post(format!("{}/identity/v3/auth/tokens", self.url)).json(ask).send().await?;
        let (status, token) = (reply.status(), reply.headers().get("x-subject-token").cloned());
        let body: Value = reply.json().await?;
        let Some(token) = token else { bail!("no token: {status} {body}") };
        Ok((token.to_str()?.to_owned(), body))
    }

    fn get(&self, path: &str) -> RequestBuilder {
        let call = self.http.get(format!("{}/compute/v2.1{path}", self.url));
        call.header("X-Auth-Token", &self.token).header("OpenStack-API-Version", VERSION)
    }
}

fn by_password() -> Value {
    let user = json!({"name": "admin", "domain": {"id": "default"}, "password": PASSWORD});
    json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": "admin", "domain": {"id": "default"}}}}})
}

async fn read(call: RequestBuilder) -> Result<Vec<u8>> {
    let reply = call.send().await?;
    let status = reply.status();
    let body = reply.bytes().await?;
    ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&body));
    Ok(body.to_vec())
}

/// Trusts the cloud's CA alone.
pub(super) fn trusting(ca_pem: &str) -> Result<ConfigBuilder<rustls::ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let tls = rustls::ClientConfig::builder_with_provider(provider.into());
    Ok(tls.with_protocol_versions(&[&rustls::version::TLS13])?.with_root_certificates(roots))
}
