package main

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // ESSCertID of RFC 2634
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"regexp"
	"time"
)

// RFC 3161 tokens in CMS (RFC 5652), with the signing certificate bound as RFC 5816 says.

type algorithm struct {
	OID        asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,tag:0"`
}

type response struct {
	Status struct {
		Status int
	}
	Token contentInfo
}

type signedData struct {
	Version     int
	Digests     []algorithm `asn1:"set"`
	Content     encapsulated
	Certs       asn1.RawValue `asn1:"optional,tag:0"`
	CRLs        asn1.RawValue `asn1:"optional,tag:1"`
	SignerInfos []signerInfo  `asn1:"set"`
}

type encapsulated struct {
	Type    asn1.ObjectIdentifier
	Content []byte `asn1:"explicit,tag:0"`
}

type signerInfo struct {
	Version   int
	SID       asn1.RawValue
	Digest    algorithm
	Attrs     asn1.RawValue `asn1:"optional,tag:0"`
	Algorithm algorithm
	Signature []byte
	Unsigned  asn1.RawValue `asn1:"optional,tag:1"`
}

type attribute struct {
	OID    asn1.ObjectIdentifier
	Values asn1.RawValue `asn1:"set"`
}

type tstInfo struct {
	Version int
	Policy  asn1.ObjectIdentifier
	Imprint struct {
		Algorithm algorithm
		Digest    []byte
	}
	Serial     *big.Int
	Time       asn1.RawValue
	Accuracy   accuracy        `asn1:"optional"`
	Ordering   bool            `asn1:"optional"`
	Nonce      *big.Int        `asn1:"optional"`
	TSA        asn1.RawValue   `asn1:"optional,tag:0"`
	Extensions []asn1.RawValue `asn1:"optional,tag:1"`
}

type accuracy struct {
	Seconds int `asn1:"optional"`
	Millis  int `asn1:"optional,tag:0"`
	Micros  int `asn1:"optional,tag:1"`
}

// sound says whether a reader knows all that the time stamp says (§10, 8.2).
func (i *tstInfo) sound() bool {
	a := i.Accuracy
	whole := int64(a.Seconds)*1000 + int64(a.Millis) + int64(a.Micros+999)/1000
	if i.Version != 1 || i.Serial.Sign() < 0 || i.Serial.BitLen() > 160 || min(a.Seconds, a.Millis, a.Micros) < 0 ||
		max(a.Millis, a.Micros) > 999 || a.Seconds > 86400 || whole > 86400_000 {
		return false
	}
	for _, raw := range i.Extensions {
		var extension struct {
			ID       asn1.ObjectIdentifier
			Critical bool `asn1:"optional"`
			Value    []byte
		}
		if !strict(raw.FullBytes, &extension) || extension.Critical {
			return false
		}
	}
	return true
}

var digests = map[string]crypto.Hash{
	"1.3.14.3.2.26": crypto.SHA1, "2.16.840.1.101.3.4.2.1": crypto.SHA256,
	"2.16.840.1.101.3.4.2.2": crypto.SHA384, "2.16.840.1.101.3.4.2.3": crypto.SHA512,
}

var curves = map[crypto.Hash]x509.SignatureAlgorithm{
	crypto.SHA256: x509.ECDSAWithSHA256, crypto.SHA384: x509.ECDSAWithSHA384, crypto.SHA512: x509.ECDSAWithSHA512,
}

var rsas = map[crypto.Hash]x509.SignatureAlgorithm{
	crypto.SHA256: x509.SHA256WithRSA, crypto.SHA384: x509.SHA384WithRSA, crypto.SHA512: x509.SHA512WithRSA,
}

func strict(data []byte, into any) bool {
	rest, err := asn1.Unmarshal(data, into)
	return err == nil && len(rest) == 0
}

func hashOf(h crypto.Hash, data []byte) []byte {
	d := h.New()
	d.Write(data)
	return d.Sum(nil)
}

var stampTime = regexp.MustCompile(`^[0-9]{14}(\.[0-9]*[1-9])?Z$`)

// tokenState says what a token is worth (§10, step 8).
type tokenState int

const (
	broken  tokenState = iota // it is no token over the bytes
	unknown                   // it is, and no pinned root stands above it at its time
	believed
)

// readToken judges the token over data under the pinned roots and returns its time.
func readToken(der, data []byte, roots []*tsaRoot) (time.Time, tokenState) {
	var r response
	var signed signedData
	var info tstInfo
	none := time.Time{}
	if len(der) > 64<<10 || !strict(der, &r) || r.Status.Status != 0 || r.Token.Type.String() != "1.2.840.113549.1.7.2" ||
		!strict(r.Token.Content.Bytes, &signed) || len(signed.SignerInfos) != 1 ||
		signed.Content.Type.String() != "1.2.840.113549.1.9.16.1.4" {
		return none, broken
	}
	if !strict(signed.Content.Content, &info) || !info.sound() {
		return none, broken
	}
	if digests[info.Imprint.Algorithm.OID.String()] != crypto.SHA256 ||
		!bytes.Equal(hashOf(crypto.SHA256, data), info.Imprint.Digest) {
		return none, broken
	}
	if info.Time.Tag != asn1.TagGeneralizedTime || !stampTime.Match(info.Time.Bytes) {
		return none, broken
	}
	at, err := time.Parse("20060102150405Z", string(info.Time.Bytes))
	if err != nil {
		return none, broken
	}
	certs, err := x509.ParseCertificates(signed.Certs.Bytes)
	if err != nil || len(certs) > 16 {
		return none, broken
	}
	signer := signed.SignerInfos[0].verify(signed.Content, certs)
	if signer == nil || !mayStamp(signer) || at.Before(signer.NotBefore) || !at.Before(signer.NotAfter) {
		return none, broken
	}
	if !signed.SignerInfos[0].issued(signer) {
		return none, unknown
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	for _, root := range roots {
		if !root.compromised.IsZero() && !at.Before(root.compromised) {
			continue
		}
		trusted := x509.NewCertPool()
		trusted.AddCert(root.cert)
		if _, err := signer.Verify(x509.VerifyOptions{
			Roots: trusted, Intermediates: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
		}); err == nil {
			return at, believed
		}
	}
	return none, unknown
}

// mayStamp says whether the certificate is for time stamps only, critically (RFC 3161 §2.3).
func mayStamp(cert *x509.Certificate) bool {
	for _, extension := range cert.Extensions {
		if extension.Id.String() == "2.5.29.37" {
			return extension.Critical && len(cert.ExtKeyUsage) == 1 && len(cert.UnknownExtKeyUsage) == 0 &&
				cert.ExtKeyUsage[0] == x509.ExtKeyUsageTimeStamping
		}
	}
	return false
}

func (s *signerInfo) verify(content encapsulated, certs []*x509.Certificate) *x509.Certificate {
	hash := digests[s.Digest.OID.String()]
	if hash == 0 || hash == crypto.SHA1 || len(s.Attrs.FullBytes) == 0 {
		return nil
	}
	found, rest := map[string][]byte{}, s.Attrs.Bytes
	for len(rest) > 0 {
		var a attribute
		var err error
		if rest, err = asn1.Unmarshal(rest, &a); err != nil || found[a.OID.String()] != nil {
			return nil
		}
		found[a.OID.String()] = a.Values.Bytes
	}
	var kind asn1.ObjectIdentifier
	var digest []byte
	if !strict(found["1.2.840.113549.1.9.3"], &kind) || !kind.Equal(content.Type) ||
		!strict(found["1.2.840.113549.1.9.4"], &digest) || !bytes.Equal(digest, hashOf(hash, content.Content)) {
		return nil
	}
	message := append([]byte{0x31}, s.Attrs.FullBytes[1:]...)
	for _, cert := range certs {
		if !s.names(cert) || !bound(found, cert) {
			continue
		}
		algorithm := curves[hash]
		switch cert.PublicKeyAlgorithm {
		case x509.RSA:
			algorithm = rsas[hash]
		case x509.Ed25519:
			algorithm = x509.PureEd25519
		}
		if cert.CheckSignature(algorithm, message, s.Signature) == nil {
			return cert
		}
	}
	return nil
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

// names says whether the signature states the certificate's serial number.
func (s *signerInfo) names(cert *x509.Certificate) bool {
	var id issuerAndSerial
	return strict(s.SID.FullBytes, &id) && id.Serial.Cmp(cert.SerialNumber) == 0
}

// issued says whether the signature states the certificate's issuer.
func (s *signerInfo) issued(cert *x509.Certificate) bool {
	var id issuerAndSerial
	return strict(s.SID.FullBytes, &id) && bytes.Equal(id.Issuer.FullBytes, cert.RawIssuer)
}

// bound says whether the first certificate of the signing-certificate attribute is this one.
func bound(attributes map[string][]byte, cert *x509.Certificate) bool {
	hash, value := crypto.SHA256, attributes["1.2.840.113549.1.9.16.2.47"]
	older := value == nil
	if older {
		hash, value = crypto.SHA1, attributes["1.2.840.113549.1.9.16.2.12"]
	}
	var outer, ids, fields []asn1.RawValue
	if !strict(value, &outer) || len(outer) == 0 || !strict(outer[0].FullBytes, &ids) || len(ids) == 0 ||
		!strict(ids[0].FullBytes, &fields) || len(fields) == 0 {
		return false
	}
	if fields[0].Tag == asn1.TagSequence { // an explicit hash algorithm comes first
		var a algorithm
		if older || !strict(fields[0].FullBytes, &a) || len(fields) < 2 {
			return false
		}
		if hash = digests[a.OID.String()]; hash == 0 || hash == crypto.SHA1 {
			return false
		}
		fields = fields[1:]
	}
	return bytes.Equal(fields[0].Bytes, hashOf(hash, cert.Raw))
}
