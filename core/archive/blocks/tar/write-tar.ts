/** Writes members of a plain tar: ustar headers, and GNU's long names, which hold any bytes. GNU tar's manual, "Basic Tar Format". */

const unit = 512;
const mostName = 100;
/** Size fields hold 11 octal digits. */
const emptyUnit = Buffer.alloc(unit);

function header(name: Buffer, size: number, type: string): Buffer {
  const head = Buffer.alloc(unit);
  name.copy(head, 0, 0, mostName);
  head.write('0000600\0' + '0000000\0' + '0000000\0', 100, 'latin1'); // mode, owner, group: the stand-in has the true ones
  head.write(`${size.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  head.write('00000000000\0', 136, 'latin1'); // mtime
  head.write('        ', 148, 'latin1');
  head.write(type, 156, 'latin1');
  head.write('ustar  \0', 257, 'latin1');
  const sum = head.reduce((total, byte) => total + byte, 0);
  head.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return head;
}

/** Two empty units. */
export const endOfTar = Buffer.alloc(2 * unit);

const padding = (size: number): Buffer => emptyUnit.subarray(0, (unit - (size % unit)) % unit);

/** @param path its bytes as latin-1 */
export function member(path: string, content: Buffer): Buffer[] {
  const name = Buffer.from(path, 'latin1');
  const long =
    name.length < mostName
      ? []
      : [header(Buffer.from('././@LongLink'), name.length + 1, 'L'), name, Buffer.alloc(1), padding(name.length + 1)];
  return [...long, header(name, content.length, '0'), content, padding(content.length)];
}
