//! `--lsp`: the Language Server Protocol on standard input and output.
//!
//! Texts that are open in the editor stand for the files on disk; the other manifests of the
//! workspace are read from disk, so that a Service finds its pods as it does on the command line.

mod answers;
mod lines;
mod uri;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use lsp_server::{Connection, ErrorCode, Message, Notification, Request, Response};
use lsp_types::notification::{self as told, Notification as _};
use lsp_types::request::{self as asked, Request as _};
use lsp_types::{
    CodeActionKind, CodeActionOptions, HoverProviderCapability, InitializeParams, MessageType,
    PublishDiagnosticsParams, ServerCapabilities, ShowMessageParams, TextDocumentSyncCapability,
    TextDocumentSyncKind, TextDocumentSyncOptions, TextDocumentSyncSaveOptions,
};
use miette::miette;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::workspace::Workspace;
use super::Lint;
use crate::failure::failure;

/// How long nothing must be typed before a text is checked.
const REST: Duration = Duration::from_millis(120);

/// Serves one editor until it says goodbye.
pub(super) fn serve(lint: &Lint) -> miette::Result<ExitCode> {
    let (connection, threads) = Connection::stdio();
    let (id, parameters) = connection.initialize_start().map_err(failure)?;
    let parameters: InitializeParams =
        serde_json::from_value(parameters).map_err(|error| miette!("{error}"))?;
    let answer = serde_json::json!({
        "capabilities": capabilities(),
        "serverInfo": {"name": "trainyard lint", "version": env!("CARGO_PKG_VERSION")},
    });
    connection.initialize_finish(id, answer).map_err(failure)?;
    let said_goodbye = Server {
        workspace: Workspace::new(lint.clone(), &parameters),
        connection: &connection,
        is_stale: false,
    }
    .run()?;
    // The threads end once nobody can send.
    drop(connection);
    threads.join().map_err(failure)?;
    // The protocol's exit code for an editor that went without a word.
    Ok(if said_goodbye { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn capabilities() -> ServerCapabilities {
    ServerCapabilities {
        text_document_sync: Some(TextDocumentSyncCapability::Options(TextDocumentSyncOptions {
            open_close: Some(true),
            change: Some(TextDocumentSyncKind::INCREMENTAL),
            save: Some(TextDocumentSyncSaveOptions::Supported(true)),
            ..TextDocumentSyncOptions::default()
        })),
        code_action_provider: Some(
            CodeActionOptions {
                code_action_kinds: Some(vec![CodeActionKind::QUICKFIX, answers::FIX_ALL]),
                ..CodeActionOptions::default()
            }
            .into(),
        ),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        ..ServerCapabilities::default()
    }
}

struct Server<'c> {
    workspace: Workspace,
    connection: &'c Connection,
    /// Whether something changed since the last check.
    is_stale: bool,
}

impl Server<'_> {
    /// Answers until the editor ends; true if it asked for the end first.
    fn run(mut self) -> miette::Result<bool> {
        self.check()?;
        loop {
            let message = if self.is_stale {
                match self.connection.receiver.recv_timeout(REST) {
                    Ok(message) => message,
                    Err(error) if error.is_timeout() => {
                        self.check()?;
                        continue;
                    }
                    Err(_) => return Ok(false),
                }
            } else {
                let Ok(message) = self.connection.receiver.recv() else { return Ok(false) };
                message
            };
            match message {
                Message::Request(request) => {
                    if self.connection.handle_shutdown(&request).map_err(failure)? {
                        return Ok(true);
                    }
                    self.answer(request)?;
                }
                Message::Notification(notification)
                    if notification.method == told::Exit::METHOD =>
                {
                    return Ok(false);
                }
                Message::Notification(notification) => self.note(notification)?,
                // Nothing is asked of the editor.
                Message::Response(_) => {}
            }
        }
    }

    fn answer(&mut self, request: Request) -> miette::Result<()> {
        let Request { id, method, params } = request;
        // Places of an old text would be wrong in the new one.
        if self.is_stale {
            self.check()?;
        }
        let response = match method.as_str() {
            asked::CodeActionRequest::METHOD => match read(params) {
                Ok(parameters) => Response::new_ok(id, self.workspace.actions(&parameters)),
                Err(error) => Response::new_err(id, ErrorCode::InvalidParams as i32, error),
            },
            asked::HoverRequest::METHOD => match read(params) {
                Ok(parameters) => Response::new_ok(id, self.workspace.hover(&parameters)),
                Err(error) => Response::new_err(id, ErrorCode::InvalidParams as i32, error),
            },
            _ => {
                let message = format!("`{method}` is not among the capabilities");
                Response::new_err(id, ErrorCode::MethodNotFound as i32, message)
            }
        };
        self.send(Message::Response(response))
    }

    fn note(&mut self, notification: Notification) -> miette::Result<()> {
        let Notification { method, params } = notification;
        match method.as_str() {
            told::DidOpenTextDocument::METHOD => {
                if let Ok(parameters) = read(params) {
                    self.workspace.open(parameters);
                    self.is_stale = true;
                }
            }
            told::DidChangeTextDocument::METHOD => {
                if let Ok(parameters) = read(params) {
                    self.workspace.change(parameters);
                    self.is_stale = true;
                }
            }
            told::DidCloseTextDocument::METHOD => {
                if let Ok(parameters) = read::<lsp_types::DidCloseTextDocumentParams>(params) {
                    self.workspace.close(&parameters.text_document.uri);
                    let uri = parameters.text_document.uri;
                    self.publish(PublishDiagnosticsParams::new(uri, Vec::new(), None))?;
                    self.is_stale = true;
                }
            }
            told::DidSaveTextDocument::METHOD
            | told::DidChangeWatchedFiles::METHOD
            | told::DidChangeConfiguration::METHOD => {
                self.workspace.look_at_disk_again();
                self.is_stale = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks all and tells what was found in open texts.
    fn check(&mut self) -> miette::Result<()> {
        self.is_stale = false;
        if let Err(error) = self.workspace.check() {
            let parameters =
                ShowMessageParams { typ: MessageType::ERROR, message: error.to_string() };
            let message = Notification::new(told::ShowMessage::METHOD.to_owned(), parameters);
            return self.send(Message::Notification(message));
        }
        for parameters in self.workspace.diagnostics() {
            self.publish(parameters)?;
        }
        Ok(())
    }

    fn publish(&self, parameters: PublishDiagnosticsParams) -> miette::Result<()> {
        let method = told::PublishDiagnostics::METHOD.to_owned();
        self.send(Message::Notification(Notification::new(method, parameters)))
    }

    fn send(&self, message: Message) -> miette::Result<()> {
        self.connection.sender.send(message).map_err(failure)
    }
}

fn read<T: DeserializeOwned>(parameters: Value) -> Result<T, String> {
    serde_json::from_value(parameters).map_err(|error| error.to_string())
}
