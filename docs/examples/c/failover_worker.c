/*  A worker of 7/MDP that goes on when its broker is lost, or sends it away. It echoes.

        failover_worker SERVICE ENDPOINT...

    MAJORDOMO_HEARTBEAT_MS is the interval of heartbeats, 2500 as the broker's.
    Build: cc -o failover_worker failover_worker.c -lzmq                                   */

#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define WORKER "MDPW01"

enum { READY = 1, REQUEST, REPLY, HEARTBEAT, DISCONNECT };
enum { LIVENESS = 3, PAUSE_MIN_MS = 100, PAUSE_MAX_MS = 10000, GOODBYE_MS = 1000 };

static int64_t heartbeat_ms = 2500;
static volatile sig_atomic_t is_leaving = 0;

static void on_signal (int number)
{
    (void) number;
    is_leaving = 1;
}

static int64_t now_ms (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*  The frames that every message to the broker begins with. */
static void send_command (void *socket, char command, int more)
{
    zmq_send (socket, "", 0, ZMQ_SNDMORE);
    zmq_send (socket, WORKER, strlen (WORKER), ZMQ_SNDMORE);
    zmq_send (socket, &command, 1, more ? ZMQ_SNDMORE : 0);
}

/*  Reads one message and returns its command, 0 if it has none. The reply to a request goes out frame
    by frame: after the command both are the client's address, an empty frame, and the body. */
static int receive (void *socket)
{
    int command = 0, more = 1;
    for (int number = 0; more; number++) {
        zmq_msg_t frame;
        zmq_msg_init (&frame);
        if (zmq_msg_recv (&frame, socket, 0) < 0) {
            zmq_msg_close (&frame);
            return 0;
        }
        more = zmq_msg_more (&frame);
        if (number == 2 && zmq_msg_size (&frame) == 1)
            command = *(char *) zmq_msg_data (&frame);
        if (number == 2 && command == REQUEST && more)
            send_command (socket, REPLY, 1);
        if (number > 2 && command == REQUEST)
            zmq_msg_send (&frame, socket, more ? ZMQ_SNDMORE : 0);
        else
            zmq_msg_close (&frame);
    }
    return command;
}

/*  One connection, from READY to its end: whether the broker had taken us. */
static int serve (void *context, const char *endpoint, const char *service)
{
    void *socket = zmq_socket (context, ZMQ_DEALER);
    int linger = 0;
    zmq_setsockopt (socket, ZMQ_LINGER, &linger, sizeof linger);
    if (zmq_connect (socket, endpoint) != 0) {
        fprintf (stderr, "%s: %s\n", endpoint, zmq_strerror (zmq_errno ()));
        zmq_close (socket);
        return 0;
    }
    send_command (socket, READY, 1);
    zmq_send (socket, service, strlen (service), 0);

    int is_registered = 0;
    int64_t heartbeat_at = now_ms () + heartbeat_ms;
    int64_t alive_until = now_ms () + heartbeat_ms * LIVENESS;
    while (!is_leaving && now_ms () < alive_until) {
        int64_t wake_at = heartbeat_at < alive_until ? heartbeat_at : alive_until;
        int64_t wait = wake_at - now_ms ();
        zmq_pollitem_t item = { socket, 0, ZMQ_POLLIN, 0 };
        if (zmq_poll (&item, 1, wait > 0 ? (long) wait : 0) > 0) {
            int command = receive (socket);
            if (command == 0 || command == DISCONNECT)
                break;
            if (!is_registered) {
                /*  READY has no reply of its own. The first HEARTBEAT, or a REQUEST, says that every
                    node of the cluster knows about us. */
                fprintf (stderr, "registered at %s\n", endpoint);
                is_registered = 1;
            }
            alive_until = now_ms () + heartbeat_ms * LIVENESS;
        }
        if (now_ms () >= heartbeat_at) {
            send_command (socket, HEARTBEAT, 0);
            heartbeat_at = now_ms () + heartbeat_ms;
        }
    }
    if (is_leaving) {
        /*  Says goodbye, so that the broker does not wait for our heartbeats. */
        send_command (socket, DISCONNECT, 0);
        linger = GOODBYE_MS;
        zmq_setsockopt (socket, ZMQ_LINGER, &linger, sizeof linger);
    } else
        fprintf (stderr, "lost %s\n", endpoint);
    /*  Nothing more may be sent there, and a new connection needs a new socket. */
    zmq_close (socket);
    return is_registered;
}

/*  Between half of the pause and all of it, so that workers which lost the same broker come back one
    after the other. A signal ends it. */
static void pause_about (int64_t milliseconds)
{
    milliseconds = milliseconds / 2 + rand () % (milliseconds / 2 + 1);
    struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
    nanosleep (&time, NULL);
}

int main (int argc, char *argv [])
{
    if (argc < 3) {
        fprintf (stderr, "usage: failover_worker SERVICE ENDPOINT...\n");
        return 2;
    }
    const char *given = getenv ("MAJORDOMO_HEARTBEAT_MS");
    if (given && atoi (given) > 0)
        heartbeat_ms = atoi (given);
    struct sigaction action = { .sa_handler = on_signal };
    sigaction (SIGTERM, &action, NULL);
    sigaction (SIGINT, &action, NULL);
    srand ((unsigned) now_ms () ^ (unsigned) getpid ());

    void *context = zmq_ctx_new ();
    int64_t pause_ms = PAUSE_MIN_MS;
    /*  At random, for workers that all begin with the same broker are all lost with it. */
    int count = argc - 2;
    for (int number = rand () % count; !is_leaving;
         number = (number + 1 + rand () % (count > 1 ? count - 1 : 1)) % count) {
        if (serve (context, argv [number + 2], argv [1])) {
            /*  It was a good broker, which leaves or died: the next one is good, too. */
            pause_ms = PAUSE_MIN_MS;
        } else if (!is_leaving) {
            /*  No broker there, or none that takes us now: ask less and less often. */
            pause_about (pause_ms);
            pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
        }
    }
    zmq_ctx_term (context);
    return 0;
}
