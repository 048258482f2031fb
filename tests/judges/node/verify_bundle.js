// Asks Sigstore's own verifier about a bundle: node verify_bundle.js TRUSTED_ROOT BUNDLE ARTIFACT KEY VALID_FROM
// KEY is the signer's SubjectPublicKeyInfo in DER, resolved by the caller from the key chain.
// Prints VERIFIED, or the code of the verifier's own error; exit status 0 or 1.
const fs = require("fs");
const crypto = require("crypto");
const { bundleFromJSON } = require("@sigstore/bundle");
const { toSignedEntity, toTrustMaterial, Verifier } = require("@sigstore/verify");
const { TrustedRoot } = require("@sigstore/protobuf-specs");

const [, , rootPath, bundlePath, artifactPath, keyPath, validFrom] = process.argv;
try {
  const root = TrustedRoot.fromJSON(JSON.parse(fs.readFileSync(rootPath, "utf8")));
  const publicKey = crypto.createPublicKey({ key: fs.readFileSync(keyPath), format: "der", type: "spki" });
  const hint = crypto.createHash("sha256").update(fs.readFileSync(keyPath)).digest("hex");
  const trust = toTrustMaterial(root, (asked) => {
    if (asked !== hint) throw new Error(`unknown key ${asked}`);
    return { publicKey, validFor: (date) => date >= new Date(validFrom) };
  });
  const bundle = bundleFromJSON(JSON.parse(fs.readFileSync(bundlePath, "utf8")));
  const verifier = new Verifier(trust, { ctlogThreshold: 0, tlogThreshold: 1, timestampThreshold: 1 });
  verifier.verify(toSignedEntity(bundle, fs.readFileSync(artifactPath)));
  console.log("VERIFIED");
} catch (error) {
  console.log(error.code || error.name, error.message);
  process.exit(1);
}
