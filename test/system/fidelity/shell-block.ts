/** Runs the shell commands of docs/archive-format.md, exactly as the page shows them. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { projectFolder } from '../../architecture/source-tree.js';

const run = promisify(execFile);

/** The page's block. Only the name of the run and the destination are replaced. */
function block(run: string, into: string): string {
  const page = readFileSync(`${projectFolder}/docs/archive-format.md`, 'utf8');
  const text = /^```(?:ba)?sh\n(run=[\s\S]*?)^```$/m.exec(page)?.[1];
  const example = text && /^run=(\S+)$/m.exec(text)?.[1];
  if (text === undefined || example === undefined || !text.includes('/tmp/restored')) throw new Error('the page has no such block');
  return text.replaceAll(example, run).replaceAll('/tmp/restored', into);
}

export interface Said {
  readonly text: string;
  /** Lines of `sha256sum -c`. */
  readonly checks: readonly string[];
}

/** Runs the block in a record's folder. It uses no code of the project: the shell finds only programs of the system. */
export async function typed(record: string, name: string, into: string): Promise<Said> {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };
  const done = await run('bash', ['-c', block(name, into)], { cwd: record, env, maxBuffer: 1 << 24 }).catch((error: unknown) => {
    if (error instanceof Error && 'stdout' in error) return { stdout: String(error.stdout) };
    throw error;
  });
  return { text: done.stdout, checks: done.stdout.split('\n').filter((line) => /: (OK|FAILED)( open or read)?$/.test(line)) };
}

/** The two hashes of step 1: the computed one and the stored one. */
export function manifestHashes({ text }: Said): readonly [string | undefined, string | undefined] {
  const [computed = '', kept] = text.split('\n');
  return [/^([0-9a-f]{64}) {2}-$/.exec(computed)?.[1], kept];
}
