/** Inode flags: chattr sets them, lsattr reads them. */
import { childOutput } from '../../plugins/shared/primitives/child.js';

export const chattr = (change: string, ...paths: readonly string[]) => childOutput('chattr', [change, '--', ...paths]);

/** A line `path flags` for each entry. The folder must hold no names with a line end. */
export async function flagsIn(folder: string): Promise<string[]> {
  const said = await childOutput('find', [folder, '(', '-type', 'f', '-o', '-type', 'd', ')', '-exec', 'lsattr', '-d', '{}', '+']);
  const lines = said.split('\n').flatMap((line) => {
    const [, all = '', path = ''] = /^(\S+) (.*)$/.exec(line) ?? [];
    const flags = all.replace(/[^iadC]/g, '');
    return flags === '' ? [] : [`${path.slice(folder.length + 1) || '.'} ${flags}`];
  });
  return lines.sort();
}
