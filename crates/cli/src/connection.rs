//! The controller as the environment names it.

use std::path::PathBuf;

use whimbrel_api::{
    client::ControllerClient,
    failure::{Failure, FailureCode},
};

const URL: &str = "WHIMBREL_URL";
const CA: &str = "WHIMBREL_CA";
const TOKEN: &str = "WHIMBREL_TOKEN";
const TOKEN_FILE: &str = "WHIMBREL_TOKEN_FILE";

/// From `WHIMBREL_URL`, `WHIMBREL_CA` (a PEM file) and `WHIMBREL_TOKEN` or `WHIMBREL_TOKEN_FILE`.
pub fn connect() -> Result<ControllerClient, Failure> {
    let url = variable(URL)?;
    let ca = read(CA, &PathBuf::from(variable(CA)?))?;
    let token = match std::env::var(TOKEN) {
        Ok(token) if !token.is_empty() => token,
        Ok(_) | Err(_) => read(TOKEN_FILE, &PathBuf::from(variable(TOKEN_FILE)?))?,
    };
    ControllerClient::new(&url, &ca, token.trim())
}

/// Where the controller is, without a slash at its end.
pub fn url() -> Result<String, Failure> {
    Ok(variable(URL)?.trim_end_matches('/').to_owned())
}

/// Where the controller's CA is, for other clients.
pub fn ca_file() -> Result<PathBuf, Failure> {
    let path = PathBuf::from(variable(CA)?);
    std::path::absolute(&path).map_err(|error| {
        Failure::new(FailureCode::BadRequest, format!("{} ({CA}) is no path: {error}", path.display()))
    })
}

fn variable(name: &str) -> Result<String, Failure> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
        Failure::new(FailureCode::BadRequest, format!("{name} is not set, so no controller is known"))
            .hint("in a lab: eval \"$(whimbrel lab env)\"")
    })
}

fn read(variable: &str, path: &PathBuf) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::new(FailureCode::BadRequest, format!("cannot read {} ({variable}): {error}", path.display()))
    })
}
