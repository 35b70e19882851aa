/** Replaces commands in the sandbox of tar by those of a test. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Scripts of sh that replace commands in /usr/bin. */
export type Scripts = Readonly<Record<string, string>>;

/** Writes a `bwrap` into the folder. It mounts the scripts over the real commands in its sandbox. It takes effect for a process whose
 *  PATH begins with the folder. `after` is sh code that runs outside, with the arguments of bwrap as "$@". */
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

/** During `action`, every tar that this process starts has the scripts in its sandbox. */
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
