/** Runs commands of a test in the place of those that the sandbox of tar runs. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The scripts (of sh) that take the place of commands in /usr/bin. */
export type Scripts = Readonly<Record<string, string>>;

/** Leaves a `bwrap` in the folder that binds the scripts into its sandbox, above the real ones. Whoever has the folder first in
 *  its PATH runs them. `after` is sh, run outside with what bwrap was told as "$@". */
export async function putSandboxCommands(folder: string, scripts: Scripts, after = ''): Promise<void> {
  await mkdir(join(folder, 'inside'), { recursive: true });
  const binds: string[] = [];
  for (const [name, script] of Object.entries(scripts)) {
    const path = join(folder, 'inside', name);
    await writeFile(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    binds.push('--ro-bind', `'${path}'`, `/usr/bin/${name}`);
  }
  // the root is closed last
  const insert = `for one; do shift; [ "$one" != --remount-ro ] || set -- "$@" ${binds.join(' ')}; set -- "$@" "$one"; done`;
  const start = after === '' ? 'exec /usr/bin/bwrap "$@"' : `/usr/bin/bwrap "$@"\ncode=$?\n${after}\nexit $code`;
  await writeFile(join(folder, 'bwrap'), `#!/bin/sh\n${insert}\n${start}\n`, { mode: 0o755 });
}

/** Runs something with the scripts in the sandbox of every tar that this process starts meanwhile. */
export async function withSandboxCommands<T>(folder: string, scripts: Scripts, action: () => Promise<T>): Promise<T> {
  await putSandboxCommands(folder, scripts);
  const { PATH } = process.env;
  process.env.PATH = `${folder}:${PATH}`;
  try {
    return await action();
  } finally {
    process.env.PATH = PATH;
  }
}
