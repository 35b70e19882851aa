/** The table of errors: code → HTTP status, whether the same request may succeed later, and the general fix. An answer gives the
 *  error's own message first, which names the thing. */

export interface ErrorRow {
  readonly status: number;
  readonly retryable: boolean;
  readonly fix: string;
}

const final = (status: number, fix: string): ErrorRow => ({ status, retryable: false, fix });
const retryable = (status: number, fix: string): ErrorRow => ({ status, retryable: true, fix });

const table = {
  bad_request: final(400, 'Correct the request as the message says.'),
  validation: final(400, 'Correct the fields that the answer names.'),
  past: final(400, 'Give a time in the future.'),
  unauthorized: final(401, 'Log in, then send the request again with the session.'),
  forbidden: final(403, 'Log in as an admin, or ask an admin to do it.'),
  not_found: final(404, 'Check the name or the id: list what is there.'),
  method_not_allowed: final(405, 'Use one of the methods that the Allow header names.'),
  conflict: final(409, 'Change or remove what stands in the way, which the message names.'),
  busy: retryable(409, 'Wait until what runs has ended, or stop it.'),
  in_use: final(409, 'Stop or change what uses it, which the message names.'),
  record_in_use: retryable(409, 'Wait until the other appliance or job has ended with the record.'),
  record_owned: final(409, 'Choose another job_name or path, or take the record over with PUT /backup/:id/take-over.'),
  precondition_failed: final(412, 'Get the object again and repeat the change.'),
  too_large: final(413, 'Send a smaller body.'),
  too_many: retryable(429, 'Wait as long as the Retry-After header says.'),
  internal: final(500, "Read the service's log, which says more, and report the fault."),
  unavailable: retryable(503, 'Check that the engine, server or share is on, reachable and mounted; then try again.'),
  // A person must decide what to do with acknowledged state that is damaged:
  state_damaged: final(503, 'Mend the state of the service as the message says, on the machine itself.'),
  // From plugins and runs:
  no_space: retryable(507, 'Free some space there, then try again.'),
  read_only: final(409, 'Let the user of the target write there, or choose another location.'),
  denied: final(502, 'Correct the username, password or key of the target, or give its user the right.'),
  untrusted: final(502, 'If the server was set up anew, confirm its new key with PUT /target/:id; else find out who answers there.'),
  invalid: final(400, 'Correct the path, name or option that the message names.'),
  exists: final(409, 'Choose another name, or remove what is there.'),
  needs_consent: final(409, 'Read the grants of POST /restore/plan, and send its consent with the restore.'),
  secrets_lost: final(409, 'Set the password of the target again with PUT /target/:id.'),
  damaged: final(502, 'Restore another run, and check the disk of the target.'),
  stalled: retryable(504, 'Check the server and the network, then try again.'),
  aborted: retryable(503, 'Try again: it was stopped before its end.'),
  unsupported: final(400, 'Choose an engine or target that can do this, as the message says.'),
  io: retryable(502, 'Check the disk or the connection that the message names, then try again.'),
  failed: final(502, 'Correct what the message of the program or server says.'),
  // From runs that the service itself refused, ended or lost:
  pause_too_long: final(409, 'Raise max_pause_seconds of the job, or let it go on with "long_pause": "skip".'),
  interrupted: retryable(503, 'Run the job again.'),
  crashed: final(500, "Run the job again. If that fails too, read the service's log and report the fault."),
  // From updates of the firmware:
  untrusted_bundle: final(422, 'Use a bundle that is signed for this appliance.'),
  damaged_bundle: final(422, 'Download the bundle again, and send it again.'),
  incompatible_bundle: final(422, 'Use the bundle that is made for this board.'),
  downgrade: final(409, 'Install it with "force": true if an older version is meant.'),
  install_failed: final(502, 'Send the bundle again; if that fails too, read the log of the machine.'),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof table;

export const errorRows: Readonly<Record<ErrorCode, ErrorRow>> = table;

export const isErrorCode = (code: unknown): code is ErrorCode => typeof code === 'string' && Object.hasOwn(table, code);
