//! One HTTP call: deadline, bound, and an error in words.

use std::{error::Error, time::Duration};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use whimbrel_core::failure::{Failure, FailureCode};

use crate::{openstack::identity::AUTH_TOKEN, problem::Problem};

pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// A call that moves no bulk content ends by then.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// Bulk content ends when no byte moved for so long.
pub const CONTENT_STALL_MAX: Duration = Duration::from_secs(60);
/// A page of `PAGE_MAX` servers with many disks each stays well below.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;
const ERROR_TEXT_CHARS_MAX: usize = 300;
const H2_FRAME_BYTES_MAX: u32 = 256 << 10;
const H2_PING_EVERY: Duration = Duration::from_secs(10);
const H2_PING_TIME_MAX: Duration = Duration::from_secs(10);
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// HTTP over `tls`, HTTP/2 where the server can.
pub fn http_client(mut tls: rustls::ClientConfig) -> Result<reqwest::Client, Failure> {
    if tls.alpn_protocols.is_empty() {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIME_MAX)
        .http2_max_frame_size(H2_FRAME_BYTES_MAX)
        .http2_keep_alive_interval(H2_PING_EVERY)
        .http2_keep_alive_timeout(H2_PING_TIME_MAX)
        .pool_idle_timeout(IDLE_TIME_MAX)
        .build()
        .map_err(|error| Failure::new(FailureCode::Internal, format!("cannot set up HTTPS: {}", chain(&error))))
}

/// What a call shows of who makes it.
#[derive(Clone, Debug)]
enum Token {
    Bearer(String),
    Keystone(String),
}

#[derive(Clone, Debug)]
pub(super) struct Transport {
    http: reqwest::Client,
    /// Without a slash at the end.
    url: String,
    token: Option<Token>,
    /// `the controller`, `the agent of host 'h1'`.
    peer: String,
    /// What to do when it cannot be reached.
    unreachable_hint: String,
}

impl Transport {
    pub(super) fn new(
        http: reqwest::Client,
        url: &str,
        peer: String,
        unreachable_hint: String,
    ) -> Result<Self, Failure> {
        let parsed = reqwest::Url::parse(url).ok().filter(|parsed| parsed.scheme() == "https" && parsed.has_host());
        if parsed.is_none() {
            return Err(Failure::new(FailureCode::BadRequest, format!("'{url}' is no URL of {peer}"))
                .hint("it has the form https://NAME-OR-IP:PORT"));
        }
        Ok(Transport { http, url: url.trim_end_matches('/').to_owned(), token: None, peer, unreachable_hint })
    }

    pub(super) fn with_token(mut self, token: &str) -> Self {
        self.token = Some(Token::Bearer(token.trim().to_owned()));
        self
    }

    pub(super) fn with_keystone_token(mut self, token: &str) -> Self {
        self.token = Some(Token::Keystone(token.to_owned()));
        self
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    pub(super) async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, Failure> {
        self.call(Method::GET, path, None::<&()>, CALL_TIME_MAX).await
    }

    pub(super) async fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<A, Failure> {
        self.call(Method::POST, path, body, CALL_TIME_MAX).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.empty(Method::DELETE, path, None::<&()>, CALL_TIME_MAX).await
    }

    pub(super) async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        time_max: Duration,
    ) -> Result<A, Failure> {
        let bytes = self.bytes(method.clone(), path, body, time_max).await?;
        self.parse(&method, path, &bytes)
    }

    pub(super) async fn empty(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        time_max: Duration,
    ) -> Result<(), Failure> {
        self.bytes(method, path, body, time_max).await.map(drop)
    }

    async fn bytes(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        time_max: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let mut request = self.request(method.clone(), path).timeout(time_max);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = self.send(request).await?;
        self.body_of(response, &method, path).await
    }

    pub(super) fn parse<A: DeserializeOwned>(&self, method: &Method, path: &str, bytes: &[u8]) -> Result<A, Failure> {
        serde_json::from_slice(bytes).map_err(|error| {
            let detail =
                format!("{} at {} answered {method} {path} with what is no such answer: {error}", self.peer, self.url);
            Failure::new(FailureCode::Internal, detail).hint("are both sides of the same version?")
        })
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(Token::Bearer(token)) => request.bearer_auth(token),
            Some(Token::Keystone(token)) => request.header(AUTH_TOKEN, token),
            None => request,
        }
    }

    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        request.send().await.map_err(|error| self.broken(&error))
    }

    /// The body of a good answer, or the failure that the answer tells.
    pub(super) async fn body_of(
        &self,
        mut response: Response,
        method: &Method,
        path: &str,
    ) -> Result<Vec<u8>, Failure> {
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(&error))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                let detail = format!(
                    "{} at {} answered {method} {path} with more than {ANSWER_BYTES_MAX} bytes",
                    self.peer, self.url
                );
                return Err(Failure::new(FailureCode::Internal, detail));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() { Ok(bytes) } else { Err(self.refused(status, method, path, &bytes)) }
    }

    fn refused(&self, status: StatusCode, method: &Method, path: &str, bytes: &[u8]) -> Failure {
        if let Ok(problem) = serde_json::from_slice::<Problem>(bytes) {
            return Failure { code: problem.code, detail: problem.detail, hint: problem.hint };
        }
        let text: String = String::from_utf8_lossy(bytes).chars().take(ERROR_TEXT_CHARS_MAX).collect();
        let code = match status {
            StatusCode::NOT_FOUND => FailureCode::NotFound,
            StatusCode::UNAUTHORIZED => FailureCode::Unauthorized,
            StatusCode::FORBIDDEN => FailureCode::Forbidden,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                FailureCode::HostDown
            }
            _ => FailureCode::Internal,
        };
        let said = if text.trim().is_empty() { String::new() } else { format!(": {}", text.trim()) };
        Failure::new(code, format!("{} at {} answered {method} {path} with {status}{said}", self.peer, self.url))
            .hint("is that the right URL, and are both sides of the same version?")
    }

    /// No whole answer came.
    pub(super) fn broken(&self, error: &reqwest::Error) -> Failure {
        let why = chain(error);
        let (peer, url) = (&self.peer, &self.url);
        if why.contains("certificate") || why.contains("alert") {
            return Failure::new(FailureCode::Unauthorized, format!("TLS with {peer} at {url} failed: {why}"))
                .hint("is the CA certificate in use that of this controller, and is the clock right?");
        }
        let detail = if error.is_connect() {
            format!("cannot reach {peer} at {url}: {why}")
        } else if error.is_timeout() {
            format!("no answer in time from {peer} at {url}")
        } else {
            format!("the connection to {peer} at {url} broke: {why}")
        };
        Failure::new(FailureCode::HostDown, detail).hint(self.unreachable_hint.clone())
    }

    pub(super) fn stalled(&self, what: &str) -> Failure {
        let detail = format!(
            "{what}: no byte moved to or from {} at {} for {} s",
            self.peer,
            self.url,
            CONTENT_STALL_MAX.as_secs()
        );
        Failure::new(FailureCode::HostDown, detail).hint(self.unreachable_hint.clone())
    }
}

/// The causes below reqwest's own words, which only repeat the URL.
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut cause: Option<&dyn Error> = error.source();
    let mut words: Vec<String> = Vec::new();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.iter().any(|word| word.contains(&text)) {
            words.push(text);
        }
        cause = error.source();
    }
    if words.is_empty() { error.to_string() } else { words.join(": ") }
}

/// One path segment; names of images and servers may hold anything.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && text.len() > 2) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn a_name_stays_one_path_segment() {
        let check = |name: &str, want: &str| assert_eq!(segment(name), want);
        check("server-01", "server-01");
        check("debian 12/cloud", "debian%2012%2Fcloud");
        check("..", "%2E%2E");
        check("a.b.c", "a.b.c");
        check("ü?#", "%C3%BC%3F%23");
    }
}
