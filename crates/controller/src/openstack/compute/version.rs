//! The microversion of a request: chosen before anything else is looked at, and told in every answer.

use axum::{
    Extension,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header::VARY},
    middleware::Next,
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::{
    fault::Fault,
    microversion::{self, HEADER, HEADER_LEGACY, Microversion, Offer},
};

use super::answer::Refused;

/// In the extensions of every request.
#[derive(Clone, Copy, Debug)]
pub(super) struct At(pub Microversion);

/// The offer is the controller's, in the extensions of the whole router.
pub(super) async fn negotiate(Extension(offer): Extension<Offer>, mut request: Request, next: Next) -> Response {
    let asked = microversion::asked(&values(request.headers(), HEADER), &values(request.headers(), HEADER_LEGACY));
    match offer.choose(asked) {
        Ok(at) => {
            request.extensions_mut().insert(At(at));
            told(next.run(request).await, at)
        }
        Err(refused) => {
            let fault = Fault::new(refused.status(), refused.to_string());
            told(Refused::from(fault).into_response(), Microversion::FIRST)
        }
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
}

fn told(mut response: Response, at: Microversion) -> Response {
    let headers = response.headers_mut();
    for (name, text) in [(HEADER, format!("compute {at}")), (HEADER_LEGACY, at.to_string())] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(HeaderName::from_static(name), value);
        }
        headers.append(VARY, HeaderValue::from_static(name));
    }
    response
}
