//! The read-only page of runner and operator. It asks `/status` beside it every two seconds and draws the answer: one job,
//! or all jobs. Three texts, and the routes that hand them out; nothing is loaded from elsewhere. [`Authentication`] keeps
//! strangers from all that a server shows.

mod authentication;

use axum::Router;
use axum::http::header;
use axum::routing::get;

pub use authentication::{Authentication, Token};

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct File {
    /// Where it is served.
    path: &'static str,
    /// Its `Content-Type`.
    content_type: &'static str,
    /// Its content.
    text: &'static str,
}

/// All files; the first one is the page itself.
const FILES: [File; 3] = [
    File { path: "/", content_type: "text/html; charset=utf-8", text: include_str!("index.html") },
    File { path: "/page.css", content_type: "text/css; charset=utf-8", text: include_str!("page.css") },
    File { path: "/page.js", content_type: "text/javascript; charset=utf-8", text: include_str!("page.js") },
];

/// `Content-Security-Policy` of every file: nothing but what this server gives, nothing inline, no frames.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Serves every file, to be merged with the routes of a server that answers `/status`.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    router_below("")
}

/// The same below a path without a slash at its end, beside `<path>/status`.
pub fn router_below<S: Clone + Send + Sync + 'static>(path: &str) -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, file| {
        let headers = [
            (header::CONTENT_TYPE, file.content_type),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        router.route(&format!("{path}{}", file.path), get(move || async move { (headers, file.text) }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_nothing_is_written() {
        for file in FILES {
            // The namespace of SVG is a name, not an address.
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            for word in ["http:", "https:", "innerHTML", "eval(", "POST", "style=", "onclick"] {
                assert!(!text.contains(word), "{}: {word}", file.path);
            }
        }
    }

    #[test]
    fn every_file_that_the_page_names_is_served() {
        for file in &FILES[1..] {
            let name = file.path.trim_start_matches('/');
            assert!(FILES[0].text.contains(name), "{name}");
        }
    }
}
