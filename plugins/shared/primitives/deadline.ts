/** Time limits of a put. The contract lets an aborted put take 5 s, even when the server no longer answers. */
import { untilAborted } from '../source.js';

/** Runs the step that gives an upload its name. After an abort of `signal` the step has `graceMs` more to end, because one that is
 *  cut off leaves it unknown whether the file exists. @throws PluginError aborted */
export async function finishWithin<T>(
  graceMs: number,
  signal: AbortSignal,
  what: string,
  work: (late: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const abort = () => {
    timer = setTimeout(() => late.abort(), graceMs);
  };
  signal.addEventListener('abort', abort, { once: true });
  try {
    if (signal.aborted) abort();
    return await untilAborted(work(late.signal), late.signal, what);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}

/** Waits `ms` at most for an undo, which then continues in the background. Files that it cannot remove stay as unfinished.
 *  @returns undefined when it failed or took longer */
export async function settleWithin<T>(ms: number, work: (late: AbortSignal) => Promise<T>): Promise<T | undefined> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), ms).unref();
  try {
    return await untilAborted(work(late.signal), late.signal, 'undo');
  } catch {
    return undefined; // the caller reports the error that led to the undo
  } finally {
    clearTimeout(timer);
  }
}
