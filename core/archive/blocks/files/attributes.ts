/** Removes the extended attributes of a file, ACLs too: cp(1) adds those of a stand-in, and takes none away. No tool that Debian always has
 *  removes them; perl can make the system calls on a descriptor that it inherits. */
import type { FileHandle } from 'node:fs/promises';
import { PluginError } from '../../../contract/index.js';
import { archiveChild, childExit } from '../../../primitives/child.js';

/** The numbers of flistxattr and fremovexattr. */
const callNumbers: Readonly<Record<string, readonly [number, number]>> = { x64: [196, 199], arm64: [13, 16] };

/** Linux's limit of a list of names. */
const mostNames = 65_536;

const script = (list: number, remove: number) => String.raw`
my $names = "\0" x ${mostNames};
my $length = syscall(${list}, 3, $names, ${mostNames});
exit 0 if $length < 0;
for my $name (split /\0/, substr($names, 0, $length)) { exit 4 if syscall(${remove}, 3, $name) }`;

/** @throws PluginError failed */
export async function clearAttributes(file: FileHandle, signal: AbortSignal): Promise<void> {
  const calls = callNumbers[process.arch];
  if (calls === undefined) return;
  const child = archiveChild('perl', ['-e', script(...calls)], ['ignore', 'ignore', 'ignore', file.fd]);
  const code = await childExit(child, 'perl', signal);
  if (code !== 0) throw new PluginError('failed', `the attributes of a big file could not be removed: perl ended with ${code}`);
}
