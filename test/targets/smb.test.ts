import t from 'tap';
import { targetConformance } from '../conformance/index.js';
import { openSmb, Smbd, stateFolder } from '../support/servers/smbd.js';

const state = await stateFolder(t);

// Samba stores a name that ends in a dot under another name by default; smb/names.test.ts tests that
const signed = await Smbd.start({ global: ['server signing = mandatory', 'mangled names = no'] });
const small = await Smbd.start({ size: '8m' });
targetConformance({
  name: 'smb, signed',
  open: () => openSmb(signed, state, { base: 'data/some/base' }),
  openFull: () => openSmb(small, state),
  cleanup: async () => {
    await signed[Symbol.asyncDispose]();
    await small[Symbol.asyncDispose]();
  },
});

const secret = await Smbd.start({ global: ['smb encrypt = required', 'server min protocol = SMB3_11', 'mangled names = no'] });
targetConformance({
  name: 'smb, encrypted',
  open: () => openSmb(secret, state, { base: 'data', encrypt: true }),
  openFull: 'elsewhere',
  cleanup: () => secret[Symbol.asyncDispose](),
  large: 64 << 20,
});
