/** Argon2 hashing, limited by a semaphore: each hash takes 20 MiB and a core. */
import { hash, verify } from '@node-rs/argon2';
import { PluginError } from '../contract/index.js';
import { Semaphore } from '../primitives/semaphore.js';

/** Hashes at a time: a small machine has two cores, and runs need them, too. */
const atOnce = 2;
/** Most requests in the queue: a later one would wait longer than a person does. */
const mostWaiting = 64;

const hashing = new Semaphore(atOnce);
let waiting = 0;

/** @throws PluginError unavailable: too many wait; aborted: the client has gone */
async function queued<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  if (waiting >= mostWaiting)
    throw new PluginError('unavailable', 'too many logins at a time; try again in a few seconds', { retryable: true });
  waiting++;
  const free = await hashing
    .take(signal)
    .catch((cause: unknown) => {
      throw new PluginError('aborted', 'the client has gone', { cause });
    })
    .finally(() => waiting--);
  try {
    return await work();
  } finally {
    free();
  }
}

const always = new AbortController().signal;

export const hashPassword = (password: string | Buffer): Promise<string> => queued(() => hash(password), always);

/** @param signal of the client; an abort ends the wait @throws PluginError unavailable, aborted */
export function isPassword(hashed: string, password: string, signal: AbortSignal = always): Promise<boolean> {
  return queued(() => verify(hashed, password), signal);
}
