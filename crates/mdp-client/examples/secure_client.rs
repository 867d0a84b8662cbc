//! A client with keys (CURVE), that says why a broker refuses it.
//!
//! `secure_client ENDPOINT KEY_FILE SERVER_KEY_FILE SERVICE BODY`: KEY_FILE is the NAME.key_secret of
//! `majordomo keygen`, SERVER_KEY_FILE the public key of the cluster. Prints the reply. A worker gets its keys
//! in the same way: `WorkerOptions::keys`.
#![expect(clippy::print_stdout, reason = "an example shows what it gets")]

use std::{env, error::Error, fs};

use mdp_client::{CallError, Client, ClientOptions, ConnectFailure, KeyFile};
use zeroize::Zeroizing;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [endpoint, key_file, server_key_file, service, body] = arguments.as_slice() else {
        return Err("usage: secure_client ENDPOINT KEY_FILE SERVER_KEY_FILE SERVICE BODY".into());
    };
    let own = KeyFile::parse(&Zeroizing::new(fs::read_to_string(key_file)?))?;
    let server = KeyFile::parse(&fs::read_to_string(server_key_file)?)?;
    let secret = own.secret.ok_or("there is no secret key in the key file")?;

    let options = ClientOptions::new([endpoint]).keys(secret, server.public);
    match Client::connect(options)?.call(service, body.as_str()) {
        Ok(reply) => println!("{}", String::from_utf8_lossy(&reply.frames.concat())),
        // Nothing that asking again would change.
        Err(CallError::Unreachable { endpoints, .. })
            if endpoints.iter().all(|one| one.failure == ConnectFailure::NotAdmitted) =>
        {
            return Err("this key is to be made known to the cluster: not admitted".into());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
