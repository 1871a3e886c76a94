/* The ceilings that more than one file, or a document, knows: with unit and reason. What bounds one file alone stands
 * at its top. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

/* link (PROTOCOL.md, "Link") */
#define LIMIT_LINK_FRAME_BODY (64u * 1024)      /* bytes; larger is a protocol error */
#define LIMIT_LINK_STREAMS 256u                 /* live streams a session, both directions of opening together */
#define LIMIT_LINK_INITIAL_WINDOW (256u * 1024) /* bytes a direction a stream before the first ACK raises it */
#define LIMIT_LINK_SMALL_WINDOW (512u * 1024)   /* to here it grows on any line: two fast cores need that */
#define LIMIT_LINK_WINDOW (4u * 1024 * 1024)    /* bytes a direction a stream: 4 MiB carries 335 Mbit/s at 100 ms */
#define LIMIT_LINK_SESSION_WINDOW (64u * 1024 * 1024) /* bytes a direction a session, all streams */
#define LIMIT_LINK_OUTPUT (128u * 1024) /* bytes of ciphertext waiting for the leg: short, so keystrokes pass */
#define LIMIT_LINK_TEXT 200u            /* bytes of a reason text in REFUSED, RESET, BYE */
#define LIMIT_LINK_HOST 253u            /* bytes of a host name in OPEN (RFC 1035) */
#define LIMIT_SOCKET_PATH 107u          /* bytes of a unix socket's path in OPEN (sun_path, with its NUL) */
#define LIMIT_LINK_TABLE                                                                                             \
	(5u * LIMIT_LINK_STREAMS) /* streams of one opener that live or whose end is not confirmed yet: several full \
				     tables a round trip, also from a peer that does not know max_streams */

/* legs and relay */
#define LIMIT_RELAY_QUEUE (256u * 1024)     /* bytes a direction waiting in the relay; then its sender is not read */
#define LIMIT_LEG_TEXT 4096u                /* bytes of a text message on a leg */
#define LIMIT_WS_MESSAGE_TEXT (256u * 1024) /* bytes of a text message on a control connection */

/* HTTP and JSON */
#define LIMIT_HTTP_HEADERS 16384u /* bytes of all request headers: large bearer tokens fit */
#define LIMIT_HTTP_HEADER_COUNT 64u
#define LIMIT_HTTP_BODY (256u * 1024)          /* bytes of a request body: a policy of 1,000 statements fits */
#define LIMIT_HTTP_RESPONSE (4u * 1024 * 1024) /* bytes of a response that our clients accept */
#define LIMIT_HTTP_HEADER_TIME_MS 10000        /* until the whole request head is there */
#define LIMIT_HTTP_BODY_TIME_MS 20000

/* identities and names */
#define LIMIT_ID 64u        /* characters of a target, session or policy name */
#define LIMIT_SUBJECT 256u  /* bytes of a principal's name */
#define LIMIT_LOGIN 32u     /* characters of a login name (useradd's limit) */
#define LIMIT_TAGS 32u      /* tags a target */
#define LIMIT_TAG_TEXT 128u /* characters of a tag's key or value */
#define LIMIT_ALLOW 64u     /* host:port entries that one StartSession asks for */
#define LIMIT_TOKEN 8192u   /* bytes of a bearer token */

/* policies */
#define LIMIT_POLICIES 1000u            /* in force at once, files and store together */
#define LIMIT_POLICY_STATEMENTS 1000u   /* a policy */
#define LIMIT_POLICY_LIST 256u          /* entries of one list: actions, resources, principals, values of a condition */
#define LIMIT_POLICY_CONDITIONS 64u     /* operator and key pairs a statement */
#define LIMIT_POLICY_TEXT 1024u         /* bytes of a pattern, value, name or key */
#define LIMIT_POLICY_PIECES 64u         /* runs of text, wildcards and variables a pattern */
#define LIMIT_POLICY_VARIABLES 8u       /* variables a pattern */
#define LIMIT_POLICY_MISTAKES 32u       /* of one document that are told */
#define LIMIT_POLICY_MISTAKE_TEXT 512u  /* bytes of one, without its path */
#define LIMIT_POLICY_WHO_ROWS 1000u     /* of an answer to who-can: more than a person reads */
#define LIMIT_POLICY_WHO_STEPS 1000000u /* statements judged for one; about a tenth of a second */
#define LIMIT_POLICY_FILE (256u * 1024) /* bytes of one file of policy_dir; what the API takes (LIMIT_HTTP_BODY) */

/* server */
#define LIMIT_REACTORS 64u
#define LIMIT_WORKERS 64u
#define LIMIT_POOL_QUEUE 1024u           /* jobs of a lane waiting for a worker; then 503 with Retry-After */
#define LIMIT_WORK_MS 12000              /* for an answer or the judgement of a leg: our clients give up after 15 s */
#define LIMIT_STORE_KEY 256u             /* bytes of a document key */
#define LIMIT_STORE_VALUE (1024u * 1024) /* bytes of a document */
#define LIMIT_STORE_INDEXES 8u           /* index entries a document */
#define LIMIT_SCAN_PAGE 1000u            /* rows a page */
#define LIMIT_STORE_CALL_MS 5000 /* one call of the store: longer than its busy timeout, shorter than a client's */
#define LIMIT_PLUGIN_METRICS 64u /* counters that plugins may name */
#define LIMIT_REPLAY 65536u      /* one-time proofs remembered: 500 attaches a second in their two minutes */
#define LIMIT_REPLAY_SHARE 128u  /* of these one end of a session, or one agent: an attach a second */
#define LIMIT_SESSION_KEEP_MS (7 * 24 * 3600 * 1000LL) /* how long one may ask how a session ended */
#define LIMIT_ENROLLMENT_S (7 * 24 * 3600)             /* lifetime of an enrolment token at most */
#define LIMIT_HOST_KEYS 8u                             /* SSH host keys an agent */
#define LIMIT_SSH_CAS 8u           /* keys of SSH CAs that are trusted at once; a change needs two */
#define LIMIT_AGENT_SESSIONS 1024u /* running sessions that an agent's hello lists */
#define LIMIT_AGENT_FEATURES 32u   /* words of an agent's hello about what it can do */
#define LIMIT_REASON 256u          /* bytes of the reason that StartSession may carry */
#define LIMIT_FAILURES 60000       /* refused credentials a minute that may be allowed: one a millisecond */
#define LIMIT_STRANGERS 1000000    /* connections without a good credential that may be allowed */

/* agent */
#define LIMIT_AGENT_SPOOL (16u * 1024 * 1024) /* bytes of reports that wait for the server: about 80,000 streams */
#define LIMIT_AGENT_JOB (64u * 1024)          /* bytes of what a worker is told at its start; fits a socket's buffer */
#define LIMIT_AGENT_ALLOW 256u                /* entries of an agent's allow list: each worker is told them all */
#define LIMIT_SERVER_URLS 16u                 /* server URLs that an agent remembers */
#define LIMIT_GENERATION 999999               /* resumes of a session by other clients; part of a socket's name */

/* files */
#define LIMIT_SECRET_FILE (64u * 1024) /* bytes of a key or credentials file */
#define LIMIT_CONFIG_FILE (1024u * 1024)

/* memory for keys, locked (base/process.h); it takes room only as it is used */
#define LIMIT_SECRETS (256u * 1024)             /* bytes in agent and CLI, which have few connections */
#define LIMIT_SECRETS_LEAST (4u * 1024 * 1024)  /* bytes in a server; a file of 4,096 HMAC secrets fits twice */
#define LIMIT_SECRETS_MOST (128u * 1024 * 1024) /* bytes in one that may open a million descriptors */
#define LIMIT_SECRET_KEPT 8192u                 /* bytes of one text in it; longer ones are on the heap */

#endif
