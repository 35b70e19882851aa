/** Archives of an attacker with write access to a target: two levels that together would write outside of the folder of their
 *  extraction. */

export interface Crafted {
  readonly name: string;
  /** tar's type: file, hard link, symlink, device, folder, fifo, GNU's folder with its list, or extended header. */
  readonly type?: '0' | '1' | '2' | '3' | '5' | '6' | 'D' | 'x';
  readonly target?: string;
  readonly data?: string;
  /** Claimed size, instead of the length of the data. */
  readonly size?: number;
}

export interface TwoLevels {
  readonly title: string;
  readonly levels: readonly [readonly Crafted[], readonly Crafted[]];
}

const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, '0')}\0`;

function header({ name, type = '0', target = '', data = '', size = data.length }: Crafted): Buffer {
  const block = Buffer.alloc(512);
  const put = (at: number, text: string, width: number) => block.write(text.slice(0, width), at, 'latin1');
  put(0, name, 100);
  put(100, octal(0o777, 8), 8);
  put(108, octal(0, 8), 8);
  put(116, octal(0, 8), 8);
  put(124, octal(size, 12), 12);
  put(136, octal(1_700_000_000, 12), 12);
  put(148, '        ', 8);
  put(156, type, 1);
  put(157, target, 100);
  put(257, type === 'D' ? 'ustar  \0' : 'ustar\x0000', 8);
  put(329, octal(1, 8), 8);
  put(337, octal(3, 8), 8);
  put(
    148,
    octal(
      block.reduce((sum, byte) => sum + byte, 0),
      7,
    ),
    7,
  );
  return block;
}

/** The archive of the entries. */
export function tarOf(entries: readonly Crafted[]): Buffer {
  const blocks = entries.flatMap((entry) => {
    const { data = '' } = entry;
    return [header(entry), Buffer.from(data, 'latin1'), Buffer.alloc((512 - (data.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

/** A folder with the list of its entries (GNU dumpdir), as in an incremental archive. Extraction deletes every entry that is not listed. */
const listed = (name: string, ...items: readonly string[]): Crafted => ({
  name: `${name}/`,
  type: 'D',
  data: `${items.join('\0')}${items.length > 0 ? '\0' : ''}\0`,
});

/** The same in the form of today's tar: an extended header and a folder. */
function extended(name: string, ...items: readonly string[]): Crafted[] {
  const { data = '' } = listed(name, ...items);
  const body = ` GNU.dumpdir=${data}\n`;
  const digits = String(body.length + 2).length;
  return [
    { name: './PaxHeaders/x', type: 'x', data: `${body.length + digits}${body}` },
    { name: `${name}/`, type: '5' },
  ];
}

const file = (name: string): Crafted => ({ name, data: 'from the archive' });
const link = (name: string, target: string): Crafted => ({ name, type: '2', target });
const hardLink = (name: string, target: string): Crafted => ({ name, type: '1', target });
const top = listed('.', 'Yx');

/** `outside` is a folder with the file `keep` and the folder `sub` with `inner`. From the extracted tree, `../outside` leads there. */
export function craftedArchives(outside: string): readonly TwoLevels[] {
  const through = [top, link('./x', outside)];
  const around = [top, link('./x', '..')];
  const two = (title: string, first: readonly Crafted[], ...second: readonly Crafted[]): TwoLevels => ({ title, levels: [first, second] });
  return [
    two('a file below a link', through, file('./x/new')),
    two('a file in the place of one below a link', through, file('./x/keep')),
    two('a file below a relative link', [top, link('./x', '../outside')], file('./x/new')),
    two('a file below a link to the parent', around, file('./x/outside/keep')),
    two('a file below a link to a link', [listed('.', 'Ya', 'Yx'), link('./a', '..'), link('./x', 'a/outside')], file('./x/new')),
    two('a file below a link of the same level', [], ...through, file('./x/new')),
    two('a folder below a link', through, { name: './x/folder/', type: '5' }),
    two('a folder in the place of one below a link', through, { name: './x/sub/', type: '5' }),
    two('a folder that is a link', through, { name: './x/.', type: '5' }),
    two('a link below a link', through, link('./x/link', '/')),
    two('a pipe below a link', through, { name: './x/pipe', type: '6' }),
    two('a device below a link', through, { name: './x/device', type: '3' }),
    two('a hard link below a link', [listed('.', 'Ymine', 'Yx'), file('./mine'), ...through.slice(1)], hardLink('./x/new', './mine')),
    two('a hard link to a file below a link', through, hardLink('./new', './x/keep')),
    two('a hard link to a file outside', [], hardLink('./new', `${outside}/keep`)),
    two('a hard link to a file outside, then a file in its place', [top, hardLink('./x', '../outside/keep')], file('./x')),
    two('a file in the place of a link to a file', [top, link('./x', `${outside}/keep`)], file('./x')),
    two('a list that leaves out all below a link', through, listed('./x')),
    two('a list that leaves out all of a folder below a link', through, listed('./x/sub')),
    two('a list that leaves out all of a folder below a link to the parent', around, listed('./x/outside')),
    two('an extended list that leaves out all of a folder below a link', through, ...extended('./x/sub')),
    two('a list that moves a file here from below a link', through, listed('.', 'Rx/keep', 'Ttaken')),
    two('a list that moves a file to below a link', [...through, file('./mine')], listed('.', 'Rmine', 'Tx/new')),
    two('an absolute name', [], file(`${outside}/new`)),
    two('an absolute list', [], listed(outside)),
    two('a name with two dots', [], file('../outside/new')),
    two('a list with two dots', [], listed('../outside'), listed('./../outside/sub')),
    two('a device with two dots', [], { name: '../outside/device', type: '3' }),
  ];
}
