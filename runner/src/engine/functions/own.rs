//! Functions of ours: what people who clean and join events need and the libraries do not have.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, StringViewArray, TimestampMicrosecondArray, UInt32Array, make_comparator,
};
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::compute::{SortOptions, is_not_null, take};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{ScalarValue, exec_err, internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use woothee::parser::Parser;

use crate::engine::UTC;
use crate::source::decode::timestamp_of_text;

/// A function, documented by an example that a test runs.
#[cfg_attr(not(test), expect(dead_code, reason = "a test makes the page of functions of it"))]
pub(crate) struct Described {
    /// As a query writes it, with its arguments.
    pub(crate) form: &'static str,
    /// What it gives, in a sentence.
    pub(crate) gives: &'static str,
    /// A call.
    pub(crate) example: &'static str,
    /// What the call gives, as text.
    pub(crate) result: &'static str,
}

/// The functions, and their descriptions.
pub(super) fn functions() -> Vec<(Described, ScalarUDF)> {
    let text = |form, gives, example, result, compute: fn(&str) -> Option<String>| {
        let compute = move |args: &[ArrayRef]| -> Result<ArrayRef> {
            Ok(Arc::new(texts(&args[0])?.iter().map(|text| compute(text?)).collect::<StringViewArray>()))
        };
        (Described { form, gives, example, result }, own(form, vec![DataType::Utf8View], DataType::Utf8View, compute))
    };
    let test = |form, gives, example, result, holds: fn(&str) -> bool| {
        let compute = move |args: &[ArrayRef]| -> Result<ArrayRef> {
            Ok(Arc::new(texts(&args[0])?.iter().map(|text| text.map(holds)).collect::<BooleanArray>()))
        };
        (Described { form, gives, example, result }, own(form, vec![DataType::Utf8View], DataType::Boolean, compute))
    };
    let time_type = DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
    vec![
        test(
            "is_valid_email(text)",
            "Whether the text is an address such as `a.b@example.com`.",
            "is_valid_email('ann@example.com')",
            "true",
            is_email,
        ),
        test(
            "is_valid_ip(text)",
            "Whether the text is an address of IPv4 or IPv6.",
            "is_valid_ip('10.0.0.256')",
            "false",
            |text| text.parse::<IpAddr>().is_ok(),
        ),
        test(
            "is_valid_json(text)",
            "Whether the text is one JSON value.",
            "is_valid_json('{\"a\": [1, 2]}')",
            "true",
            |text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(),
        ),
        test(
            "is_valid_timestamp(text)",
            "Whether `parse_timestamp` takes the text.",
            "is_valid_timestamp('2026-02-30 00:00:00')",
            "false",
            |text| timestamp_of_text(text).is_some(),
        ),
        test(
            "is_valid_url(text)",
            "Whether the text is an absolute URL with a host.",
            "is_valid_url('https://example.com/a?b=1')",
            "true",
            |text| url::Url::parse(text).is_ok_and(|url| url.has_host()),
        ),
        test(
            "is_valid_uuid(text)",
            "Whether the text is a UUID of 36 characters.",
            "is_valid_uuid('67e55044-10b1-426f-9247-bb680e5fe0c8')",
            "true",
            |text| text.len() == 36 && uuid::Uuid::try_parse(text).is_ok(),
        ),
        (
            Described {
                form: "lookup(map, key, default)",
                gives: "The value of a key in a map of texts, or the default: weights of event types, names of codes.",
                example: "lookup(MAP {'click': 1.0, 'buy': 5.0}, 'buy', 0.0)",
                result: "5.0",
            },
            ScalarUDF::new_from_impl(Lookup { signature: Signature::user_defined(Volatility::Immutable) }),
        ),
        (
            Described {
                form: "mask_hmac(text, key)",
                gives: "A pseudonym: HMAC-SHA-256 of the text under a constant key, in 64 hexadecimal digits. The same text \
                        gives the same pseudonym, and without the key nobody gets back.",
                example: "mask_hmac('ann', 'a key of the example')",
                result: "519bafce969cfcc0eb2e6fefbb91137e981057a289d31b587241740798ae2dd8",
            },
            ScalarUDF::new_from_impl(MaskHmac::new(None)),
        ),
        (
            Described {
                form: "parse_timestamp(text)",
                gives: "The time of a text in any form that a column of type timestamp takes. Other texts are refused.",
                example: "parse_timestamp('2026-02-16 14:00:00+01:00')",
                result: "2026-02-16T13:00:00Z",
            },
            own("parse_timestamp(text)", vec![DataType::Utf8View], time_type.clone(), |args: &[ArrayRef]| {
                let times = texts(&args[0])?.iter().map(|text| match text {
                    None => Ok(None),
                    Some(text) => match timestamp_of_text(text) {
                        Some(time) => Ok(Some(time)),
                        None => exec_err!("parse_timestamp does not know the form of a text: use try_parse_timestamp"),
                    },
                });
                Ok(Arc::new(times.collect::<Result<TimestampMicrosecondArray>>()?.with_timezone(UTC)))
            }),
        ),
        (
            Described {
                form: "try_parse_timestamp(text)",
                gives: "As `parse_timestamp`, and null for other texts.",
                example: "try_parse_timestamp('yesterday')",
                result: "NULL",
            },
            own("try_parse_timestamp(text)", vec![DataType::Utf8View], time_type, |args: &[ArrayRef]| {
                let times = texts(&args[0])?.iter().map(|text| timestamp_of_text(text?));
                Ok(Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone(UTC)))
            }),
        ),
        text(
            "ua_browser(text)",
            "The browser of a user agent, or null.",
            "ua_browser('Mozilla/5.0 (Windows NT 10.0; rv:128.0) Gecko/20100101 Firefox/128.0')",
            "Firefox",
            |agent| agent_part(agent, |found| found.name),
        ),
        text(
            "ua_category(text)",
            "What a user agent runs on: `pc`, `smartphone`, `mobilephone`, `crawler`, `appliance`, `misc`, or null.",
            "ua_category('Googlebot/2.1 (+http://www.google.com/bot.html)')",
            "crawler",
            |agent| agent_part(agent, |found| found.category),
        ),
        text(
            "ua_os(text)",
            "The operating system of a user agent, or null.",
            "ua_os('Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148')",
            "iPhone",
            |agent| agent_part(agent, |found| found.os),
        ),
    ]
}

/// Functions that come from libraries beside the engine's.
#[cfg(test)]
pub(super) fn of_libraries() -> Vec<Described> {
    let described = |form, gives, example, result| Described { form, gives, example, result };
    vec![
        described(
            "json_get_str(json, key, …)",
            "The text at a way of keys and positions, or null. `json_get_int`, `json_get_float`, `json_get_bool` and \
             `json_get_json` (its JSON text) are its siblings; `json ->> 'key'` is any value as text.",
            "json_get_str('{\"a\": [{\"b\": \"x\"}]}', 'a', 0, 'b')",
            "x",
        ),
        described("json_get_int(json, key, …)", "As `json_get_str`.", "json_get_int('{\"n\": 5}', 'n')", "5"),
        described("json ->> key", "Any value of a key, as text.", "'{\"n\": 5}' ->> 'n'", "5"),
        described(
            "json -> key",
            "A value of a key, for a further `->` or a CAST.",
            "('{\"n\": 5}' -> 'n')::BIGINT",
            "5",
        ),
        described(
            "json_contains(json, key, …)",
            "Whether there is a value.",
            "json_contains('{\"n\": 5}', 'n')",
            "true",
        ),
        described("json_length(json, key, …)", "How many elements or keys.", "json_length('[1, 2]')", "2"),
        described(
            "parse_url(url, part [, key])",
            "HOST, PATH, QUERY, REF, PROTOCOL, FILE, AUTHORITY or USERINFO; one key of the QUERY. What is no URL is refused; \
             `try_parse_url` gives null for it.",
            "parse_url('https://example.com/p?q=1', 'QUERY', 'q')",
            "1",
        ),
        described("url_encode(text)", "For a URL.", "url_encode('a b')", "a+b"),
        described(
            "url_decode(text)",
            "Out of a URL; `try_url_decode` gives null where that fails.",
            "url_decode('a%20b')",
            "a b",
        ),
        described("sha1(text)", "In hexadecimal digits.", "sha1('a')", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"),
        described(
            "sha2(text, bits)",
            "224, 256, 384 or 512 bits, in hexadecimal digits.",
            "sha2('a', 256)",
            "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        ),
        described("crc32(text)", "A checksum.", "crc32('a')", "3904355907"),
        described("xxhash64(x, …)", "A fast hash, as Spark computes it.", "xxhash64('a')", "-8582455328737087284"),
    ]
}

fn agent_part(agent: &str, part: impl for<'a> Fn(&woothee::parser::WootheeResult<'a>) -> &'a str) -> Option<String> {
    let found = Parser::new().parse(agent)?;
    let part = part(&found);
    (!part.is_empty() && part != "UNKNOWN").then(|| part.to_owned())
}

/// One @, something short before it, and a host with a dot behind it.
fn is_email(text: &str) -> bool {
    let Some((user, host)) = text.rsplit_once('@') else { return false };
    let in_user = |letter: char| letter.is_ascii_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(letter);
    let in_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (1..=64).contains(&user.len())
        && user.chars().all(in_user)
        && !user.starts_with('.')
        && !user.ends_with('.')
        && !user.contains("..")
        && host.len() <= 253
        && host.contains('.')
        && host.split('.').all(in_label)
}

fn texts(array: &ArrayRef) -> Result<&StringViewArray> {
    match array.as_string_view_opt() {
        Some(texts) => Ok(texts),
        None => internal_err!("text was expected, not {}", array.data_type()),
    }
}

/// What a function of ours computes, from arrays of one length.
type Compute = Arc<dyn Fn(&[ArrayRef]) -> Result<ArrayRef> + Send + Sync>;

/// A function whose name stands before the parenthesis of its form.
fn own(
    form: &'static str,
    arguments: Vec<DataType>,
    returns: DataType,
    compute: impl Fn(&[ArrayRef]) -> Result<ArrayRef> + Send + Sync + 'static,
) -> ScalarUDF {
    let name = form.split('(').next().unwrap_or(form);
    let signature = Signature::new(TypeSignature::Exact(arguments), Volatility::Immutable);
    ScalarUDF::new_from_impl(Own { name, signature, returns, compute: Arc::new(compute) })
}

struct Own {
    name: &'static str,
    signature: Signature,
    returns: DataType,
    compute: Compute,
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Own {}

impl Hash for Own {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Own {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| (self.compute)(arrays))
    }
}

/// What `compute` gives for the arguments of a call as arrays of equal length. Constants alone give a constant.
///
/// # Errors
/// Of `compute`.
pub(crate) fn over_arrays(
    args: &ScalarFunctionArgs,
    compute: impl Fn(&[ArrayRef]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { args.number_rows };
    let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
    let computed = compute(&arrays)?;
    Ok(if constant {
        ColumnarValue::Scalar(ScalarValue::try_from_array(&computed, 0)?)
    } else {
        ColumnarValue::Array(computed)
    })
}

/// `mask_hmac`: without a key as a query writes it, with its key as it is computed. A key inside the function is in no
/// plan, message or name of a column.
#[derive(PartialEq, Eq, Hash)]
struct MaskHmac {
    key: Option<String>,
    signature: Signature,
}

impl MaskHmac {
    fn new(key: Option<String>) -> Self {
        let arguments = if key.is_some() { 1 } else { 2 };
        let arguments = TypeSignature::Exact(vec![DataType::Utf8View; arguments]);
        Self { key, signature: Signature::new(arguments, Volatility::Immutable) }
    }
}

/// Puts the key of `mask_hmac` into the function; other calls stay as they are.
///
/// # Errors
/// The key is no constant text.
pub(crate) fn with_key(call: ScalarFunction) -> Result<ScalarFunction> {
    let is_without = call.func.inner().downcast_ref::<MaskHmac>().is_some_and(|mask| mask.key.is_none());
    if !is_without {
        return Ok(call);
    }
    let [text, key] = <[Expr; 2]>::try_from(call.args).or_else(|_| plan_err!("mask_hmac takes a text and a key"))?;
    let Some(key) = constant_text(&key).filter(|key| !key.is_empty()) else {
        return plan_err!("the key of mask_hmac is a constant text: give it as a parameter of the job");
    };
    let mask = ScalarUDF::new_from_impl(MaskHmac::new(Some(key.to_owned())));
    Ok(ScalarFunction::new_udf(Arc::new(mask), vec![text]))
}

/// The text of a literal, whichever of its forms it is cast to.
fn constant_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        Expr::Cast(cast) => constant_text(&cast.expr),
        _ => None,
    }
}

impl std::fmt::Debug for MaskHmac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("mask_hmac")
    }
}

impl ScalarUDFImpl for MaskHmac {
    fn name(&self) -> &str {
        "mask_hmac"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(format!("mask_hmac({})", args.first().map(|text| text.schema_name().to_string()).unwrap_or_default()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(key) = &self.key else { return internal_err!("mask_hmac has no key") };
        let Ok(keyed) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else {
            return exec_err!("the key of mask_hmac cannot be used");
        };
        over_arrays(&args, |arrays| {
            let mask = |text: &str| {
                let mut keyed = keyed.clone();
                keyed.update(text.as_bytes());
                hexadecimal(&keyed.finalize().into_bytes())
            };
            Ok(Arc::new(texts(&arrays[0])?.iter().map(|text| text.map(mask)).collect::<StringViewArray>()))
        })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Lookup {
    signature: Signature,
}

impl ScalarUDFImpl for Lookup {
    fn name(&self) -> &str {
        "lookup"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [map @ DataType::Map(entries, _), _, _] = arg_types else {
            return plan_err!("lookup takes a map, a key and a default");
        };
        let DataType::Struct(fields) = entries.data_type() else { return internal_err!("a map has keys and values") };
        Ok(vec![map.clone(), fields[0].data_type().clone(), fields[1].data_type().clone()])
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[2].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // A constant map stays one row, whatever the number of keys.
        let one_map = matches!(args.args[0], ColumnarValue::Scalar(_));
        let map = args.args[0].to_array(if one_map { 1 } else { args.number_rows })?;
        let map = map.as_map().clone();
        let rest = ScalarFunctionArgs { args: args.args[1..].to_vec(), ..args };
        let constant = one_map && rest.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { rest.number_rows };
        let (keys, defaults) = (rest.args[0].to_array(rows)?, rest.args[1].to_array(rows)?);
        let same = make_comparator(map.keys().as_ref(), keys.as_ref(), SortOptions::default())?;
        let offsets = map.value_offsets();
        let found: UInt32Array = (0..rows)
            .map(|row| {
                let of = if one_map { 0 } else { row };
                if map.is_null(of) || keys.is_null(row) {
                    return None;
                }
                (offsets[of] as usize..offsets[of + 1] as usize)
                    .find(|entry| same(*entry, row).is_eq())
                    .map(|entry| entry as u32)
            })
            .collect();
        let values = take(map.values(), &found, None)?;
        let values = zip(&is_not_null(&found)?, &values, &defaults)?;
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)
        } else {
            ColumnarValue::Array(values)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_what_only_looks_like_one() {
        for good in ["a@b.de", "first.last+tag@mail.example.co.uk", "x_1@1.example"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "a", "a@", "@b.de", "a@b", "a b@c.de", "a@-b.de", "a..b@c.de", ".a@b.de", "a@b..de", "a@b.de "]
        {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn a_pseudonym_is_the_standards() {
        // Test case 2 of RFC 4231.
        let mut keyed = Hmac::<Sha256>::new_from_slice(b"Jefe").unwrap();
        keyed.update(b"what do ya want for nothing?");
        assert_eq!(
            hexadecimal(&keyed.finalize().into_bytes()),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
