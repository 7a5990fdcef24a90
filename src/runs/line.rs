//! One connection that is kept: for what is asked so often that plans and caches should stay warm.

use super::RunsError;
use super::schema::Address;
use sqlx::postgres::PgConnection;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A question on its way. It owns what it asks with, and borrows the connection only.
pub type Asked<'c, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'c>>;

pub struct Line {
    address: Address,
    /// For each piece of work, connecting included.
    limit: Duration,
    connection: Option<PgConnection>,
}

impl Line {
    pub fn new(address: Address, limit: Duration) -> Line {
        Line { address, limit, connection: None }
    }

    /// One question. After anything but a plain refusal the connection is made anew.
    pub async fn with<T>(
        &mut self,
        ask: impl for<'c> FnOnce(&'c mut PgConnection) -> Asked<'c, T> + Send,
    ) -> Result<T, RunsError> {
        let done = tokio::time::timeout(self.limit, async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.address.connect_for(self.limit).await?,
            };
            let result = ask(&mut connection).await;
            Ok::<_, RunsError>((connection, result))
        })
        .await;
        match done {
            Ok(Ok((connection, result))) => {
                if matches!(result, Ok(_) | Err(sqlx::Error::Database(_))) {
                    self.connection = Some(connection);
                }
                let result = result.map_err(|error| self.address.failed(error));
                if matches!(result, Err(RunsError::Unavailable(_))) {
                    self.connection = None;
                }
                result
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.address.silent(self.limit)),
        }
    }
}
