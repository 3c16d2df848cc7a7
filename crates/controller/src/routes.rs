//! The routes of the API, kept as a table beside the router that serves them.
//!
//! axum's router does not tell what is in it, and tests of authorisation and of bad input must go through all of it.
//!
//! Ground rules: every call is given to [`Routes`], so what is served is in the table by construction; its words are axum's,
//! so that a router reads as it always did.

use std::convert::Infallible;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    handler::Handler,
    http::Method,
    response::IntoResponse,
    routing::{MethodFilter, MethodRouter, Route as Served, on},
};
use tower::{Layer, Service};

use crate::app::Shared;

/// One call that is served, its path with the names of its parameters in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub method: Method,
    pub path: String,
}

/// What one path takes.
pub struct Methods {
    router: MethodRouter<Shared>,
    methods: Vec<Method>,
}

macro_rules! first_words {
    ($($name:ident = $method:ident),+) => {
        $(
            pub fn $name<H: Handler<T, Shared>, T: 'static>(handler: H) -> Methods {
                Methods { router: on(MethodFilter::$method, handler), methods: vec![Method::$method] }
            }
        )+
    };
}
first_words!(get = GET, post = POST, put = PUT);

macro_rules! further_words {
    ($($name:ident = $method:ident),+) => {
        $(
            pub fn $name<H: Handler<T, Shared>, T: 'static>(mut self, handler: H) -> Self {
                self.methods.push(Method::$method);
                Methods { router: self.router.on(MethodFilter::$method, handler), ..self }
            }
        )+
    };
}

impl Methods {
    further_words!(get = GET, post = POST, put = PUT, patch = PATCH, delete = DELETE);

    pub fn layer(self, limit: DefaultBodyLimit) -> Self {
        Methods { router: self.router.layer(limit), ..self }
    }
}

#[derive(Default)]
pub struct Routes {
    router: Router<Shared>,
    table: Vec<Route>,
}

impl Routes {
    pub fn new() -> Self {
        Routes::default()
    }

    pub fn route(mut self, path: &str, methods: Methods) -> Self {
        let row = |method| Route { method, path: path.to_owned() };
        self.table.extend(methods.methods.into_iter().map(row));
        Routes { router: self.router.route(path, methods.router), ..self }
    }

    pub fn nest(mut self, prefix: &str, inner: Routes) -> Self {
        // The nest's root answers without a slash at its end.
        let below = |path: &str| format!("{prefix}{}", if path == "/" { "" } else { path });
        self.table.extend(inner.table.into_iter().map(|row| Route { path: below(&row.path), ..row }));
        Routes { router: self.router.nest(prefix, inner.router), ..self }
    }

    pub fn merge(mut self, other: Routes) -> Self {
        self.table.extend(other.table);
        Routes { router: self.router.merge(other.router), ..self }
    }

    pub fn layer<L>(self, layer: L) -> Self
    where
        L: Layer<Served> + Clone + Send + Sync + 'static,
        L::Service: Service<Request> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request>>::Error: Into<Infallible> + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        Routes { router: self.router.layer(layer), ..self }
    }

    pub fn fallback<H: Handler<T, Shared>, T: 'static>(self, handler: H) -> Self {
        Routes { router: self.router.fallback(handler), ..self }
    }

    pub fn method_not_allowed_fallback<H: Handler<T, Shared>, T: 'static>(self, handler: H) -> Self {
        Routes { router: self.router.method_not_allowed_fallback(handler), ..self }
    }

    pub fn table(self) -> Vec<Route> {
        self.table
    }

    pub fn serving(self, app: Shared) -> Router {
        self.router.with_state(app)
    }
}
