/*  A client of 7/MDP that goes on when its broker is lost.

        failover_client SERVICE ENDPOINT...

    Each line of stdin is sent to the service as one request, and its reply is printed.
    Build: cc -o failover_client failover_client.c -lzmq                                   */

#include <stdio.h>
#include <string.h>
#include <zmq.h>

#define CLIENT "MDPC01"

enum { TIMEOUT_MS = 2500, ATTEMPTS = 3, LINE_MAX_BYTES = 64 * 1024 };

/*  Prints the frames of a reply, if this is one to a request for this service. */
static int print_reply (void *socket, const char *service)
{
    int is_ours = 1, more = 1, number = 0;
    for (; more; number++) {
        zmq_msg_t frame;
        zmq_msg_init (&frame);
        if (zmq_msg_recv (&frame, socket, 0) < 0) {
            zmq_msg_close (&frame);
            return 0;
        }
        const char *data = zmq_msg_data (&frame);
        size_t size = zmq_msg_size (&frame);
        const char *wanted = number == 0 ? CLIENT : service;
        if (number < 2)
            is_ours &= size == strlen (wanted) && memcmp (data, wanted, size) == 0;
        else if (is_ours)
            printf ("%s%.*s", number > 2 ? " " : "", (int) size, data);
        more = zmq_msg_more (&frame);
        zmq_msg_close (&frame);
    }
    if (!is_ours || number < 3)
        return 0;
    printf ("\n");
    fflush (stdout);
    return 1;
}

/*  A REQ socket that waits for a reply can do nothing else, and a late reply must not be taken for
    that to the next request: so each broker that is tried gets a new socket. */
static void *connect_to (void *context, const char *endpoint)
{
    void *socket = zmq_socket (context, ZMQ_REQ);
    int linger = 0; /* What was not sent to a dead broker is not sent later. */
    if (socket && zmq_setsockopt (socket, ZMQ_LINGER, &linger, sizeof linger) == 0
        && zmq_connect (socket, endpoint) == 0)
        return socket;
    fprintf (stderr, "%s: %s\n", endpoint, zmq_strerror (zmq_errno ()));
    if (socket)
        zmq_close (socket);
    return NULL;
}

int main (int argc, char *argv [])
{
    if (argc < 3) {
        fprintf (stderr, "usage: failover_client SERVICE ENDPOINT...\n");
        return 2;
    }
    const char *service = argv [1];
    char **endpoints = argv + 2;
    int endpoint = 0, endpoint_count = argc - 2, result = 0;
    void *context = zmq_ctx_new ();
    void *socket = NULL;

    static char line [LINE_MAX_BYTES];
    while (result == 0 && fgets (line, sizeof line, stdin)) {
        size_t size = strcspn (line, "\n");
        int replied = 0;
        /*  A request may be sent more than once: what it asks for must do no harm when done twice. */
        for (int attempt = 0; attempt < ATTEMPTS && !replied; attempt++) {
            if (!socket)
                socket = connect_to (context, endpoints [endpoint]);
            if (!socket)
                return 2;
            zmq_send (socket, CLIENT, strlen (CLIENT), ZMQ_SNDMORE);
            zmq_send (socket, service, strlen (service), ZMQ_SNDMORE);
            zmq_send (socket, line, size, 0);
            zmq_pollitem_t item = { socket, 0, ZMQ_POLLIN, 0 };
            replied = zmq_poll (&item, 1, TIMEOUT_MS) > 0 && print_reply (socket, service);
            if (!replied) {
                fprintf (stderr, "no reply from %s\n", endpoints [endpoint]);
                zmq_close (socket);
                socket = NULL;
                endpoint = (endpoint + 1) % endpoint_count;
            }
        }
        if (!replied) {
            /*  Whether a worker did the work is not known. */
            fprintf (stderr, "%s: no reply in %d attempts\n", service, ATTEMPTS);
            result = 1;
        }
    }
    if (socket)
        zmq_close (socket);
    zmq_ctx_term (context);
    return result;
}
