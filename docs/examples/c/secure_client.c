/*  A client of 7/MDP with keys (CURVE), that says why a broker refuses it.

        secure_client ENDPOINT KEY_FILE SERVER_KEY_FILE SERVICE BODY

    KEY_FILE is the NAME.key_secret of `majordomo keygen` or czmq, SERVER_KEY_FILE the public key of
    the cluster. Prints the reply. Needs a libzmq with CURVE (zmq_has ("curve")).
    Build: cc -o secure_client secure_client.c -lzmq                                       */

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#define CLIENT "MDPC01"
#define MONITOR "inproc://monitor"

/*  A broker that does not know the key holds the connection for 3 s before it says so. */
enum { TIMEOUT_MS = 6000, KEY_CHARACTERS = 40, LINE_MAX_BYTES = 256 };

typedef char secure_key_t [KEY_CHARACTERS + 1];

/*  Finds a line like `    public-key = "..."` of a key file (4/ZPL). */
static int read_key (const char *path, const char *name, secure_key_t key)
{
    char line [LINE_MAX_BYTES], found [LINE_MAX_BYTES];
    int result = -1;
    FILE *file = fopen (path, "r");
    while (file && result != 0 && fgets (line, sizeof line, file))
        if (sscanf (line, " %31[a-z-] = \"%40[^\"]\"", found, key) == 2
            && strcmp (found, name) == 0 && strlen (key) == KEY_CHARACTERS)
            result = 0;
    if (file)
        fclose (file);
    if (result != 0)
        fprintf (stderr, "%s: no %s there\n", path, name);
    return result;
}

/*  Gives a socket its keys, before it connects. A worker's socket gets them in the same way. */
static int secure (void *socket, const char *key_file, const char *server_key_file)
{
    secure_key_t own_public, own_secret, server;
    if (read_key (key_file, "public-key", own_public) != 0
        || read_key (key_file, "secret-key", own_secret) != 0
        || read_key (server_key_file, "public-key", server) != 0)
        return -1;
    return zmq_setsockopt (socket, ZMQ_CURVE_SERVERKEY, server, sizeof server)
        || zmq_setsockopt (socket, ZMQ_CURVE_PUBLICKEY, own_public, sizeof own_public)
        || zmq_setsockopt (socket, ZMQ_CURVE_SECRETKEY, own_secret, sizeof own_secret);
}

/*  What a failed handshake means. The socket itself says nothing: it would only never get a reply. */
static const char *reason (void *monitor)
{
    unsigned char event [6]; /* 16 bits that say which one, and 32 bits of its value. */
    uint16_t kind;
    uint32_t value;
    if (zmq_recv (monitor, event, sizeof event, 0) != sizeof event)
        return "no reply";
    memcpy (&kind, event, sizeof kind);
    memcpy (&value, event + sizeof kind, sizeof value);
    if (kind == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
        return "not admitted: the broker does not know this key (ERROR 400)";
    if (value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
        return "wrong mechanism: the broker has no keys";
    return "the handshake failed: is this the broker's public key?";
}

static void print_reply (void *socket)
{
    int more = 1;
    for (int number = 0; more; number++) {
        zmq_msg_t frame;
        zmq_msg_init (&frame);
        if (zmq_msg_recv (&frame, socket, 0) < 0)
            break;
        /*  Behind the header and the service. */
        if (number >= 2)
            printf ("%s%.*s", number > 2 ? " " : "", (int) zmq_msg_size (&frame),
                    (const char *) zmq_msg_data (&frame));
        more = zmq_msg_more (&frame);
        zmq_msg_close (&frame);
    }
    printf ("\n");
}

int main (int argc, char *argv [])
{
    if (argc != 6) {
        fprintf (stderr, "usage: secure_client ENDPOINT KEY_FILE SERVER_KEY_FILE SERVICE BODY\n");
        return 2;
    }
    const char *endpoint = argv [1], *service = argv [4], *body = argv [5];
    void *context = zmq_ctx_new ();
    void *socket = zmq_socket (context, ZMQ_REQ);
    void *monitor = zmq_socket (context, ZMQ_PAIR);
    int linger = 0, result = 2;
    int refusals = ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
        | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
    zmq_setsockopt (socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt (monitor, ZMQ_LINGER, &linger, sizeof linger);
    if (secure (socket, argv [2], argv [3]) == 0
        && zmq_socket_monitor (socket, MONITOR, refusals) == 0
        && zmq_connect (monitor, MONITOR) == 0 && zmq_connect (socket, endpoint) == 0) {
        zmq_send (socket, CLIENT, strlen (CLIENT), ZMQ_SNDMORE);
        zmq_send (socket, service, strlen (service), ZMQ_SNDMORE);
        zmq_send (socket, body, strlen (body), 0);
        zmq_pollitem_t items [] = { { socket, 0, ZMQ_POLLIN, 0 }, { monitor, 0, ZMQ_POLLIN, 0 } };
        int ready = zmq_poll (items, 2, TIMEOUT_MS);
        result = 1;
        if (ready > 0 && items [0].revents) {
            print_reply (socket);
            result = 0;
        } else
            fprintf (stderr, "%s: %s\n", endpoint, ready > 0 ? reason (monitor) : "no reply");
    }
    zmq_close (socket);
    zmq_close (monitor);
    zmq_ctx_term (context);
    return result;
}
