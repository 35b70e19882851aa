/** LevelDB reads its tables without checking their checksums, and some damage ends the whole process (an assertion, a wild read).
 *  So a separate process reads a database first. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** Some damage makes LevelDB read for ever. */
const limitMs = 120_000;

const script = fileURLToPath(new URL('./probing.js', import.meta.url));

/** Lets a child process read a database to its end, or repair it. Does not report LevelDB's errors: the next opening reports the
 *  same ones. @throws Error when LevelDB does not survive it */
export async function surviveLevel(verb: 'read' | 'repair', folder: string): Promise<void> {
  const args = ['--pdeathsig', 'KILL', '--', process.execPath, script, verb, folder];
  const child = spawn('setpriv', args, { stdio: 'ignore', timeout: limitMs, killSignal: 'SIGKILL' });
  const [, signal]: unknown[] = await once(child, 'exit');
  if (typeof signal === 'string') throw new Error(`LevelDB ends with ${signal} as it reads it`);
}
