//! Client of a site's own Keystone: logs in as the controller's user, and asks about the tokens that clients show.
//!
//! Ground rules: a call has a deadline and its answer a bound; a token is neither logged nor told in an error; what Keystone
//! does not say in so many words is no word for anybody. Redirects are not followed: a password goes where the site said.

use std::time::Duration;

use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{HeaderName, HeaderValue},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;
use whimbrel_core::identity::ProjectId;

use super::transport::{chain, segment};
use crate::openstack::{
    compute::times::Micros,
    identity::{
        AUTH_TOKEN, SUBJECT_TOKEN,
        vouched::{self, Credentials, Unreadable, Verdict, Vouched},
    },
};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// A password is hashed for a log-in; clients wait for this, and theirs is a minute.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);
/// Below what servers use: a connection that the other side is about to close is not used again.
const IDLE_TIME_MAX: Duration = Duration::from_secs(4);
const ANSWER_BYTES_MAX: usize = 1 << 20;
const VERSION: &str = "/v3";
/// The catalog is of no interest and is the largest part.
const TOKENS: &str = "/auth/tokens?nocatalog";

#[derive(Debug, thiserror::Error)]
pub enum KeystoneError {
    #[error("'{url}' is no address of a Keystone: it has the form https://NAME:5000/v3")]
    BadUrl { url: String },
    #[error("certificates to trust the Keystone by cannot be used: {why}")]
    BadCa { why: String },
    #[error("the Keystone at {url} does not answer: {why}")]
    Unreachable { url: String, why: String },
    #[error("the Keystone at {url} refuses the log-in of user '{user}' on project '{project}'")]
    LogInRefused { url: String, user: String, project: String },
    #[error("the Keystone at {url} does not let the controller's user check tokens")]
    Forbidden { url: String },
    #[error("the Keystone at {url} answered with status {status}")]
    Trouble { url: String, status: u16 },
    #[error("the answer of the Keystone at {url} cannot be read: {why}")]
    Unreadable { url: String, why: String },
}

impl KeystoneError {
    pub fn hint(&self) -> &'static str {
        match self {
            KeystoneError::BadUrl { .. } => "correct identity.keystone.url in the controller's configuration",
            KeystoneError::BadCa { .. } => "name a PEM file of CA certificates as identity.keystone.ca_file",
            KeystoneError::Unreachable { .. } => {
                "check the network, that Keystone runs, and identity.keystone.url and ca_file"
            }
            KeystoneError::LogInRefused { .. } => {
                "check username, password, project and domains of identity.keystone, and that the user has a role there"
            }
            KeystoneError::Forbidden { .. } => {
                "give that user the role `service` (or `admin`) on its project; see `whimbrel endpoints`"
            }
            KeystoneError::Trouble { .. } | KeystoneError::Unreadable { .. } => "look at Keystone's own log",
        }
    }
}

/// The controller's own token, as header value.
#[derive(Clone)]
pub struct AskerToken {
    value: HeaderValue,
    pub expires_us: Micros,
}

impl AskerToken {
    pub fn is_same(&self, other: &AskerToken) -> bool {
        self.value == other.value
    }
}

/// What Keystone said of a token.
#[derive(Debug)]
pub enum Word {
    Good(Vouched),
    NoToken,
    /// Log in again and ask again.
    AskerUnknown,
}

/// Cheap to clone; connections are shared.
#[derive(Clone, Debug)]
pub struct KeystoneClient {
    http: reqwest::Client,
    /// Ends in `/v3`.
    url: String,
}

impl KeystoneClient {
    /// `url` with or without the version. `ca_pem` may hold certificates of which some are of no use, as a system's own
    /// collection does; for `https` one must be of use.
    pub fn new(url: &str, ca_pem: &[u8]) -> Result<Self, KeystoneError> {
        let bad_url = || KeystoneError::BadUrl { url: url.to_owned() };
        let parsed = reqwest::Url::parse(url).map_err(|_| bad_url())?;
        let plain = parsed.query().is_none() && parsed.fragment().is_none() && parsed.username().is_empty();
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() || !plain {
            return Err(bad_url());
        }
        let unversioned = url.trim_end_matches('/');
        let unversioned = unversioned.strip_suffix(VERSION).unwrap_or(unversioned);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(trusting(ca_pem, parsed.scheme() == "https")?)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIME_MAX)
            .timeout(CALL_TIME_MAX)
            .pool_idle_timeout(IDLE_TIME_MAX)
            .build()
            .map_err(|error| KeystoneError::BadCa { why: chain(&error) })?;
        Ok(KeystoneClient { http, url: format!("{unversioned}{VERSION}") })
    }

    /// With its version.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn log_in(&self, credentials: &Credentials) -> Result<AskerToken, KeystoneError> {
        let request = self.http.post(format!("{}{TOKENS}", self.url)).json(&vouched::log_in(credentials));
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::CREATED => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(KeystoneError::LogInRefused {
                    url: self.url.clone(),
                    user: credentials.username.clone(),
                    project: credentials.project_name.clone(),
                });
            }
            status => return Err(self.trouble(status)),
        }
        let shown = response.headers().get(SUBJECT_TOKEN).cloned();
        let mut value = shown.ok_or_else(|| self.unreadable(format!("a log-in without {SUBJECT_TOKEN}")))?;
        value.set_sensitive(true);
        let expires_us =
            vouched::end_us(&self.json(response).await?).map_err(|why| self.unreadable(why.to_string()))?;
        Ok(AskerToken { value, expires_us })
    }

    /// What no header can carry is the token of nobody.
    pub async fn validate(&self, asker: &AskerToken, shown: &str) -> Result<Word, KeystoneError> {
        let Ok(mut subject) = HeaderValue::from_str(shown) else { return Ok(Word::NoToken) };
        subject.set_sensitive(true);
        let request = self.ask(Method::GET, TOKENS, asker).header(SUBJECT_TOKEN, subject);
        let response = self.send(request).await?;
        Ok(match vouched::judge(response.status().as_u16()) {
            Verdict::Good => match vouched::parse(&self.json(response).await?) {
                Ok(vouched) => Word::Good(vouched),
                // Keystone itself hides such a token from those who do not say that they look at its rules.
                Err(Unreadable::AccessRules) => Word::NoToken,
                Err(why @ (Unreadable::Field(_) | Unreadable::ManyScopes)) => {
                    return Err(self.unreadable(why.to_string()));
                }
            },
            Verdict::NoToken => Word::NoToken,
            Verdict::AskerUnknown => Word::AskerUnknown,
            Verdict::AskerForbidden => return Err(KeystoneError::Forbidden { url: self.url.clone() }),
            Verdict::Unavailable => return Err(self.trouble(response.status())),
        })
    }

    /// `None` when Keystone does not tell, as it does not tell everybody.
    pub async fn has_project(&self, asker: &AskerToken, id: &ProjectId) -> Result<Option<bool>, KeystoneError> {
        let path = format!("/projects/{}", segment(id.as_str()));
        let status = self.send(self.ask(Method::GET, &path, asker)).await?.status();
        Ok(match status {
            StatusCode::OK => Some(true),
            StatusCode::NOT_FOUND => Some(false),
            _ => None,
        })
    }

    fn ask(&self, method: Method, path: &str, asker: &AskerToken) -> RequestBuilder {
        let name = HeaderName::from_static(AUTH_TOKEN);
        self.http.request(method, format!("{}{path}", self.url)).header(name, asker.value.clone())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, KeystoneError> {
        request.send().await.map_err(|error| self.broken(&error))
    }

    async fn json(&self, mut response: Response) -> Result<Value, KeystoneError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(&error))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.unreadable(format!("it has more than {ANSWER_BYTES_MAX} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).map_err(|error| self.unreadable(error.to_string()))
    }

    fn broken(&self, error: &reqwest::Error) -> KeystoneError {
        let why = if error.is_timeout() { "no answer in time".to_owned() } else { chain(error) };
        KeystoneError::Unreachable { url: self.url.clone(), why }
    }

    fn unreadable(&self, why: String) -> KeystoneError {
        KeystoneError::Unreadable { url: self.url.clone(), why }
    }

    fn trouble(&self, status: StatusCode) -> KeystoneError {
        KeystoneError::Trouble { url: self.url.clone(), status: status.as_u16() }
    }
}

/// A site's web servers may be older than our own: TLS 1.2 is taken too.
fn trusting(ca_pem: &[u8], needed: bool) -> Result<rustls::ClientConfig, KeystoneError> {
    let bad_ca = |why: String| KeystoneError::BadCa { why };
    let mut roots = rustls::RootCertStore::empty();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(ca_pem).collect();
    roots.add_parsable_certificates(certificates.map_err(|error| bad_ca(error.to_string()))?);
    if needed && roots.is_empty() {
        return Err(bad_ca("there is none".to_owned()));
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = rustls::ClientConfig::builder_with_provider(provider.into());
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| bad_ca(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_or_without_its_version() {
        let check = |url: &str, want: Option<&str>| match (KeystoneClient::new(url, b""), want) {
            (Ok(client), Some(want)) => assert_eq!(client.url(), want),
            (Err(KeystoneError::BadUrl { .. }), None) => {}
            (other, _) => panic!("{url}: {other:?}"),
        };
        check("http://keystone:5000", Some("http://keystone:5000/v3"));
        check("http://keystone:5000/v3/", Some("http://keystone:5000/v3"));
        check("http://10.0.0.1/identity/v3", Some("http://10.0.0.1/identity/v3"));
        check("http://10.0.0.1/identity", Some("http://10.0.0.1/identity/v3"));
        check("keystone:5000", None);
        check("ftp://keystone", None);
        check("http://user@keystone", None);
        check("http://keystone/v3?x=y", None);
        let error = KeystoneClient::new("https://keystone/v3", b"no certificates").unwrap_err();
        assert!(matches!(error, KeystoneError::BadCa { .. }) && !error.hint().is_empty(), "{error}");
    }
}
