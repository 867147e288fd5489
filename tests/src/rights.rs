//! Rights of a user on a broker with an authorizer, which the client's library cannot give: a request of Kafka's protocol,
//! written by hand.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, ensure};

use crate::Broker;
use crate::broker::REQUEST_TIMEOUT;

/// Options of [`Broker::private`] for a broker on which users may do only what they are [allowed](Broker::allow) to; whoever
/// comes without a login may do everything.
pub const WITH_RIGHTS: [&str; 4] = [
    "--set",
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "--set",
    "super.users=User:ANONYMOUS",
];

/// What a user may do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Fetch records.
    Read,
    /// Produce records.
    Write,
    /// Ask for partitions and offsets.
    Describe,
}

impl Right {
    /// Its number in the protocol.
    fn code(self) -> u8 {
        match self {
            Self::Read => 3,
            Self::Write => 4,
            Self::Describe => 8,
        }
    }
}

/// Numbers of the protocol: the requests, a topic, a group, a name as it is (`*` is every one), and that something is
/// allowed.
const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
const TOPIC: u8 = 2;
const GROUP: u8 = 3;
const LITERAL: u8 = 3;
const ALLOWED: u8 = 3;

impl Broker {
    /// Gives a user rights to a topic, which need not be there.
    ///
    /// # Errors
    /// When the broker refuses, as one without an authorizer does.
    pub fn allow(&self, user: &str, topic: &str, rights: &[Right]) -> anyhow::Result<()> {
        rights.iter().try_for_each(|right| self.change_right(CREATE_ACLS, user, (TOPIC, topic), *right))
    }

    /// Lets a user commit the offsets of every group.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn allow_groups(&self, user: &str) -> anyhow::Result<()> {
        self.change_right(CREATE_ACLS, user, (GROUP, "*"), Right::Read)
    }

    /// Takes rights away that were given.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn revoke(&self, user: &str, topic: &str, rights: &[Right]) -> anyhow::Result<()> {
        rights.iter().try_for_each(|right| self.change_right(DELETE_ACLS, user, (TOPIC, topic), *right))
    }

    fn change_right(&self, request: i16, user: &str, (kind, name): (u8, &str), right: Right) -> anyhow::Result<()> {
        let mut body = Vec::new();
        for number in [request, 1] {
            body.extend(number.to_be_bytes());
        }
        // Number of the request, no name of the client, one right.
        body.extend(7_i32.to_be_bytes());
        body.extend((-1_i16).to_be_bytes());
        body.extend(1_i32.to_be_bytes());
        body.push(kind);
        text(&mut body, name)?;
        body.push(LITERAL);
        text(&mut body, &format!("User:{user}"))?;
        text(&mut body, "*")?;
        body.extend([right.code(), ALLOWED]);
        let answer = self.ask(&body).with_context(|| format!("change the right {right:?} of {user} to {name}"))?;
        // Number of the request, throttle time, number of results, and of the only one the error.
        let error = answer.get(12..14).and_then(|bytes| bytes.try_into().ok()).map(i16::from_be_bytes);
        ensure!(error == Some(0), "the broker answered with the error {error:?} to {right:?} of {user} for {name}");
        Ok(())
    }

    fn ask(&self, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut connection = TcpStream::connect(self.address()).context("connect to the broker")?;
        connection.set_read_timeout(Some(REQUEST_TIMEOUT))?;
        connection.write_all(&i32::try_from(body.len())?.to_be_bytes())?;
        connection.write_all(body)?;
        let mut length = [0; 4];
        connection.read_exact(&mut length).context("read the length of the answer")?;
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length))?];
        connection.read_exact(&mut answer).context("read the answer")?;
        Ok(answer)
    }
}

fn text(body: &mut Vec<u8>, text: &str) -> anyhow::Result<()> {
    body.extend(i16::try_from(text.len())?.to_be_bytes());
    body.extend(text.as_bytes());
    Ok(())
}
