//! What a log-in says: by which methods, as whom, for what.
//!
//! Ground rules: every method that is named must come with its proof, and a method that is not known is refused, never
//! skipped; a project or user that is told by name needs its domain.

use serde::Deserialize;
use serde_json::Value;

use super::fault::Fault;

/// A domain by id or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainRef {
    Id(String),
    Name(String),
}

/// A user or project: by id, or by name in a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedRef {
    Id(String),
    Name { name: String, domain: DomainRef },
}

#[derive(Clone, PartialEq, Eq)]
pub struct PasswordProof {
    pub user: NamedRef,
    pub password: String,
}

impl std::fmt::Debug for PasswordProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PasswordProof({:?})", self.user)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeAsk {
    /// Nothing said: the user's default project where there is one.
    Unsaid,
    Unscoped,
    Project(NamedRef),
    Domain(DomainRef),
    System,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    Password(PasswordProof),
    Token(String),
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Proof::Password(proof) => proof.fmt(f),
            Proof::Token(_) => f.write_str("Token(…)"),
        }
    }
}

impl Proof {
    /// As in `methods`.
    pub fn method(&self) -> &'static str {
        match self {
            Proof::Password(_) => "password",
            Proof::Token(_) => "token",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRequest {
    /// At least one; all must hold, and for the same user.
    pub proofs: Vec<Proof>,
    pub scope: ScopeAsk,
}

#[derive(Deserialize)]
struct Body {
    auth: Auth,
}
#[derive(Deserialize)]
struct Auth {
    identity: Identity,
    scope: Option<Value>,
}
#[derive(Deserialize)]
struct Identity {
    methods: Vec<String>,
    password: Option<Password>,
    token: Option<Token>,
}
#[derive(Deserialize)]
struct Password {
    user: User,
}
#[derive(Deserialize)]
struct User {
    #[serde(flatten)]
    named: Named,
    password: String,
}
#[derive(Deserialize)]
struct Token {
    id: String,
}
#[derive(Deserialize)]
struct Named {
    id: Option<String>,
    name: Option<String>,
    domain: Option<Domain>,
}
#[derive(Deserialize)]
struct Domain {
    id: Option<String>,
    name: Option<String>,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scope {
    project: Option<Named>,
    domain: Option<Domain>,
    system: Option<System>,
    #[serde(rename = "OS-TRUST:trust")]
    trust: Option<Value>,
}
#[derive(Deserialize)]
struct System {
    all: bool,
}

/// The only scope that is a word.
const UNSCOPED: &str = "unscoped";

pub fn parse(body: &Value) -> Result<AuthRequest, Fault> {
    let Body { auth } = Body::deserialize(body).map_err(|error| bad(&error))?;
    let Identity { methods, password, token } = auth.identity;
    let (mut password, mut token) = (password, token);
    let mut proofs = Vec::new();
    for method in &methods {
        let proof = match method.as_str() {
            "password" => password.take().map(password_proof).transpose()?.map(Proof::Password),
            "token" => token.take().map(|token| Proof::Token(token.id)),
            // As Keystone: it is the caller's proof that fails, not the form of the call.
            _ => return Err(Fault::new(401, format!("Authentication method {method} is not supported."))),
        };
        let missing = || Fault::new(400, format!("Expecting to find {method} in identity: it is among the methods."));
        proofs.push(proof.ok_or_else(missing)?);
    }
    if proofs.is_empty() {
        return Err(Fault::new(400, "Expecting to find at least one method in identity."));
    }
    Ok(AuthRequest { proofs, scope: scope(auth.scope)? })
}

fn bad(error: &serde_json::Error) -> Fault {
    Fault::new(400, format!("The log-in cannot be read: {error}."))
}

fn password_proof(Password { user }: Password) -> Result<PasswordProof, Fault> {
    Ok(PasswordProof { user: named("user", user.named)?, password: user.password })
}

fn named(object: &str, Named { id, name, domain }: Named) -> Result<NamedRef, Fault> {
    match (id, name, domain) {
        (Some(id), _, _) => Ok(NamedRef::Id(id)),
        (None, Some(name), Some(domain)) => Ok(NamedRef::Name { name, domain: domain_ref(domain)? }),
        (None, Some(_), None) => Err(Fault::new(400, format!("Expecting to find domain in {object}."))),
        (None, None, _) => Err(Fault::new(400, format!("Expecting to find id or name in {object}."))),
    }
}

fn domain_ref(Domain { id, name }: Domain) -> Result<DomainRef, Fault> {
    match (id, name) {
        (Some(id), _) => Ok(DomainRef::Id(id)),
        (None, Some(name)) => Ok(DomainRef::Name(name)),
        (None, None) => Err(Fault::new(400, "Expecting to find id or name in domain.")),
    }
}

fn scope(said: Option<Value>) -> Result<ScopeAsk, Fault> {
    let said = match said {
        None | Some(Value::Null) => return Ok(ScopeAsk::Unsaid),
        Some(Value::String(word)) if word == UNSCOPED => return Ok(ScopeAsk::Unscoped),
        Some(said) => said,
    };
    match Scope::deserialize(&said).map_err(|error| bad(&error))? {
        Scope { trust: Some(_), .. } => Err(Fault::new(403, "Trusts are not supported.")),
        Scope { project: Some(project), domain: None, system: None, trust: None } => {
            named("project", project).map(ScopeAsk::Project)
        }
        Scope { project: None, domain: Some(domain), system: None, trust: None } => {
            domain_ref(domain).map(ScopeAsk::Domain)
        }
        Scope { project: None, domain: None, system: Some(System { all: true }), trust: None } => Ok(ScopeAsk::System),
        Scope { .. } => Err(Fault::new(400, "Expecting to find one of project, domain or system in scope.")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn password(scope: Option<Value>) -> Value {
        let user = json!({"name": "a", "domain": {"id": "default"}, "password": "p"});
        let mut body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}});
        if let Some(scope) = scope {
            body["auth"]["scope"] = scope;
        }
        body
    }

    #[test]
    fn a_scope_is_one_thing() {
        let check = |scope: Option<Value>, want: Result<ScopeAsk, u16>| {
            let got = parse(&password(scope.clone())).map(|request| request.scope).map_err(|fault| fault.status);
            assert_eq!(got, want, "{scope:?}");
        };
        let project = |named| Ok(ScopeAsk::Project(named));
        let default = || DomainRef::Name("Default".into());
        check(None, Ok(ScopeAsk::Unsaid));
        check(Some(Value::Null), Ok(ScopeAsk::Unsaid));
        check(Some(json!("unscoped")), Ok(ScopeAsk::Unscoped));
        check(Some(json!({"project": {"id": "p"}})), project(NamedRef::Id("p".into())));
        let by_name = json!({"project": {"name": "p", "domain": {"name": "Default"}}});
        check(Some(by_name), project(NamedRef::Name { name: "p".into(), domain: default() }));
        check(Some(json!({"domain": {"name": "Default"}})), Ok(ScopeAsk::Domain(default())));
        check(Some(json!({"system": {"all": true}})), Ok(ScopeAsk::System));
        check(Some(json!({"system": {"all": false}})), Err(400));
        check(Some(json!({"project": {"name": "p"}})), Err(400));
        check(Some(json!({"project": {"id": "p"}, "domain": {"id": "d"}})), Err(400));
        check(Some(json!({"OS-TRUST:trust": {"id": "t"}})), Err(403));
        check(Some(json!({"galaxy": {}})), Err(400));
        check(Some(json!({})), Err(400));
        check(Some(json!(7)), Err(400));
    }

    #[test]
    fn every_method_needs_its_proof() {
        let check = |identity: Value, want: Result<Vec<&str>, u16>| {
            let got = parse(&json!({"auth": {"identity": identity}}));
            let methods = got.map(|request| request.proofs.iter().map(Proof::method).collect::<Vec<_>>());
            assert_eq!(methods.map_err(|fault| fault.status), want, "{identity}");
        };
        let user = json!({"user": {"id": "u", "password": "p"}});
        check(json!({"methods": ["password"], "password": user}), Ok(vec!["password"]));
        check(json!({"methods": ["token"], "token": {"id": "t"}}), Ok(vec!["token"]));
        let both = json!({"methods": ["token", "password"], "token": {"id": "t"}, "password": user});
        check(both, Ok(vec!["token", "password"]));
        check(json!({"methods": ["password"]}), Err(400));
        check(json!({"methods": ["password", "password"], "password": user}), Err(400));
        check(json!({"methods": []}), Err(400));
        check(json!({"methods": ["totp"], "totp": {}}), Err(401));
        check(json!({"methods": ["password"], "password": {"user": {"name": "u", "password": "p"}}}), Err(400));
        check(json!({"methods": ["password"], "password": {"user": {"id": "u", "password": 7}}}), Err(400));
        check(json!({"methods": "password"}), Err(400));
        assert_eq!(parse(&json!({})).unwrap_err().status, 400);
        assert_eq!(parse(&json!([])).unwrap_err().status, 400);
    }

    #[test]
    fn no_secret_is_printed() {
        let request = parse(&password(None)).unwrap();
        assert!(!format!("{request:?}").contains("\"p\""), "{request:?}");
        assert!(!format!("{:?}", Proof::Token("secret".into())).contains("secret"));
    }
}
