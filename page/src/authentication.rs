//! Who may see the pages: everybody, or whoever knows the token of a file. The file is read at each request, so that a
//! token that is replaced counts at once. What the kubelet asks stays open, without its words.

use std::fmt;
use std::hint::black_box;
use std::io::Read;
use std::path::PathBuf;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Longest file of a token, in bytes: what is longer is another file.
const TOKEN_BYTES_MAX: u64 = 4_096;
/// What the kubelet asks, which has no token.
const OPEN: [&str; 2] = ["/livez", "/readyz"];
/// How to ask: the first is what a browser knows.
const CHALLENGES: [&str; 2] = [r#"Basic realm="data-platform", charset="UTF-8""#, r#"Bearer realm="data-platform""#];

/// The file with the token of the pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    token_file: PathBuf,
}

/// The token of a file. It shows nowhere: not even [`fmt::Debug`] has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(***)")
    }
}

impl Token {
    /// The value of the header `Authorization` for whoever asks with this token.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether a text is the token; how long that takes depends on the length of the text alone.
    fn is(&self, given: &[u8]) -> bool {
        let token = self.0.as_bytes();
        let mut differs = given.len() ^ token.len();
        for (i, byte) in given.iter().enumerate() {
            differs |= usize::from(byte ^ token[i % token.len()]);
        }
        black_box(differs) == 0
    }
}

impl Authentication {
    /// Pages for whoever knows the token in this file.
    pub fn by_token_file(token_file: impl Into<PathBuf>) -> Self {
        Self { token_file: token_file.into() }
    }

    /// The token as the file has it now, without the blanks and line ends around it.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or holds what no header can: the text says what to do.
    pub fn token(&self) -> Result<Token, String> {
        let path = self.token_file.display();
        let cure = "put one line of letters and digits there, such as `openssl rand -hex 32` gives";
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&self.token_file)
            .and_then(|file| file.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut bytes));
        read.map_err(|error| format!("the token of the pages cannot be read from {path}: {error}: {cure}"))?;
        let is_short = bytes.len() as u64 <= TOKEN_BYTES_MAX;
        let token = String::from_utf8(bytes).unwrap_or_default().trim().to_owned();
        if is_short && !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Token(token));
        }
        Err(format!("{path} holds no token for the pages: {cure}"))
    }

    /// A router whose pages are for whoever knows the token.
    pub fn guard<S: Clone + Send + Sync + 'static>(self, router: Router<S>) -> Router<S> {
        router.layer(from_fn_with_state(self, guarded))
    }

    /// Whether the headers of a request have the token.
    ///
    /// # Errors
    /// The answer for a request that has not.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let token = self
            .token()
            .map_err(|problem| Box::new((StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response()))?;
        if given(headers).is_some_and(|given| token.is(&given)) {
            return Ok(());
        }
        let how = "this page needs the token: `Authorization: Bearer TOKEN`, or the token as password of any user\n";
        let mut answer = (StatusCode::UNAUTHORIZED, how).into_response();
        for challenge in CHALLENGES {
            answer.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        Err(Box::new(answer))
    }
}

/// What a request gives as token: a bearer's, or the password of a user of any name.
fn given(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = BASE64_STANDARD.decode(rest).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

async fn guarded(State(authentication): State<Authentication>, request: Request, next: Next) -> Response {
    let is_open = OPEN.contains(&request.uri().path());
    match authentication.admit(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(_) if is_open => without_words(next.run(request).await.status()),
        Err(refusal) => *refusal,
    }
}

/// Whether all is well, and not why not: that may name topics and tables.
fn without_words(status: StatusCode) -> Response {
    let text = if status.is_success() { "ok\n" } else { "not ok; with the token this page says why\n" };
    (status, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(content: &[u8]) -> (Authentication, PathBuf) {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pages-token-{}-{number}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        (Authentication::by_token_file(&path), path)
    }

    fn asked(authentication: &Authentication, authorization: &str) -> u16 {
        let mut headers = HeaderMap::new();
        if !authorization.is_empty() {
            headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        }
        authentication.admit(&headers).map_or_else(|refusal| refusal.status().as_u16(), |()| 200)
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    #[test]
    fn whoever_knows_the_token_is_admitted_and_nobody_else() {
        let (authentication, path) = with_file(b"s3cret:token\n");
        for (authorization, code) in [
            ("Bearer s3cret:token".to_owned(), 200),
            ("bearer  s3cret:token".to_owned(), 200),
            (basic("anybody:s3cret:token"), 200),
            (basic(":s3cret:token"), 200),
            (String::new(), 401),
            ("Bearer".to_owned(), 401),
            ("Bearer ".to_owned(), 401),
            ("Bearer s3cret:toke".to_owned(), 401),
            ("Bearer s3cret:token2".to_owned(), 401),
            ("Bearer s3cret:tokens3cret:token".to_owned(), 401),
            ("Bearer S3CRET:TOKEN".to_owned(), 401),
            ("Digest s3cret:token".to_owned(), 401),
            ("s3cret:token".to_owned(), 401),
            (basic("s3cret:token"), 401),
            (basic("token"), 401),
            ("Basic s3cret:token".to_owned(), 401),
            ("Basic !!!".to_owned(), 401),
        ] {
            assert_eq!(asked(&authentication, &authorization), code, "{authorization}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_refusal_asks_a_browser_for_a_password_and_names_no_token() {
        let (authentication, path) = with_file(b"s3cret");
        let refusal = authentication.admit(&HeaderMap::new()).unwrap_err();
        let asks: Vec<_> = refusal.headers().get_all(header::WWW_AUTHENTICATE).iter().collect();
        assert_eq!(asks, CHALLENGES);
        assert!(!format!("{refusal:?} {authentication:?} {:?}", authentication.token()).contains("s3cret"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn another_token_counts_at_once_and_without_one_nobody_is_admitted() {
        let (authentication, path) = with_file(b"first");
        assert_eq!(asked(&authentication, "Bearer first"), 200);
        std::fs::write(&path, " second \r\n").unwrap();
        assert_eq!((asked(&authentication, "Bearer first"), asked(&authentication, "Bearer second")), (401, 200));
        for (content, empty) in [
            (&b""[..], "Bearer "),
            (b" \n", ""),
            (b"two words", "Bearer two words"),
            (b"\xff", ""),
            (&[b'x'; 5_000], ""),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(asked(&authentication, empty), 503);
            let problem = authentication.token().unwrap_err();
            assert!(problem.contains(&path.display().to_string()) && problem.contains("openssl"), "{problem}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(asked(&authentication, ""), 503);
    }
}
