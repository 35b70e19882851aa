/** How the service is started: with the flags of its own first line, by the Node that runs the suite. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../core/cli/main.js', import.meta.url));
const [, flags = ''] = /^#!\/usr\/bin\/env -S node (.+)\n/.exec(readFileSync(main, 'utf8')) ?? [];

/** What Node is started with. */
export const nodeFlags: readonly string[] = flags.split(' ').filter((flag) => flag !== '');
/** The program and its arguments. */
export const serviceCommand = (args: readonly string[]): [program: string, args: string[]] => [
  process.execPath,
  [...nodeFlags, main, ...args],
];
