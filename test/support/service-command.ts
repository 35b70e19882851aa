/** The command that starts the service: the Node that runs the suite, with the flags of the first line of main.js. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Folder of the compiled code, of this checkout or another one. */
const here = fileURLToPath(new URL('../../', import.meta.url));
const compiledIn = (checkout: string | undefined): string => (checkout === undefined ? here : join(checkout, 'dist'));
const mainOf = (checkout?: string): string => join(compiledIn(checkout), 'core/cli/main.js');

function flagsOf(main: string): string[] {
  const [, flags = ''] = /^#!\/usr\/bin\/env -S node (.+)\n/.exec(readFileSync(main, 'utf8')) ?? [];
  return flags.split(' ').filter((flag) => flag !== '');
}

/** The flags of Node. */
export const nodeFlags: readonly string[] = flagsOf(mainOf());

/** The program and its arguments.
 *  @param checkout a built checkout, to start another version */
export function serviceCommand(args: readonly string[], checkout?: string): [program: string, args: string[]] {
  const main = mainOf(checkout);
  return [process.execPath, [...flagsOf(main), main, ...args]];
}
