// What binding.gyp asks for: the package's version and the digest of the core's sources, for native/addon/common/identity.cc.
import { version } from './addons/place.cjs';
import { PRODUCTS, sourceDigest } from './state.mjs';

console.log(process.argv[2] === 'version' ? version : sourceDigest(PRODUCTS.core.inputs));
