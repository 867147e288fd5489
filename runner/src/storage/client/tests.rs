//! Clients: who shares one, and what cannot be opened.

use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn whoever_opens_a_bucket_shares_its_client() {
    let (first, path) = open(&url("s3://bucket-of-this-test/a/b%20c")).unwrap();
    assert_eq!(path, Path::from("a/b c"));
    let (second, path) = open(&url("s3://bucket-of-this-test")).unwrap();
    assert_eq!(path, Path::default());
    assert!(Arc::ptr_eq(&first, &second));
    let (other, _) = open(&url("s3://another-bucket-of-this-test/a")).unwrap();
    assert!(!Arc::ptr_eq(&first, &other));
}

#[test]
fn every_scheme_of_the_api_has_a_client() {
    for (text, shown) in [
        ("s3://b/t", "AmazonS3(b)"),
        ("gs://b/t", "GoogleCloudStorage(b)"),
        ("abfss://c@a.dfs.core.windows.net/t", "MicrosoftAzure"),
    ] {
        let (store, path) = open(&url(text)).unwrap();
        assert!(store.to_string().contains(shown), "{store}");
        assert_eq!(path, Path::from("t"));
    }
    for text in ["ftp://b/t", "s3:///t", "http://b/t"] {
        let error = open(&url(text)).err().unwrap().to_string();
        assert!(error.contains("cannot open such a store"), "{error}");
    }
}

#[test]
fn certificates_of_one_s_own_are_read_and_nonsense_is_refused() {
    let with = |pem: &str| amazon("s3://b", &Options::from([(CA.to_owned(), pem.to_owned())]), None);
    assert!(with("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n").is_err());
    assert!(amazon("s3://b", &Options::new(), None).is_ok());
}
