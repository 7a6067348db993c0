// Certificates made on the spot, as the files that Tls reads.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>

namespace nearcached::tiers::io::testing {

// An authority in a folder of its own below /tmp, and what it issues.
class TlsFiles {
 public:
  struct Pair {
    std::string cert, key;  // paths
  };
  static constexpr long kHour = 3600;

  TlsFiles() {
    std::string pattern = "/tmp/nearcached-tls-XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
    folder_ = pattern;
    key_.reset(EVP_EC_gen("P-256"));
    ca_ = make("authority of " + folder_, {}, key_.get(), kHour);
    write_cert(ca(), ca_.get());
  }
  ~TlsFiles() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  TlsFiles(const TlsFiles&) = delete;
  TlsFiles& operator=(const TlsFiles&) = delete;

  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }
  [[nodiscard]] std::string ca() const { return path("ca.pem"); }
  // `names` as in subjectAltName; valid until `seconds` from now.
  Pair issue(const std::string& name, const std::string& names = "DNS:localhost,IP:127.0.0.1", long seconds = kHour) const {
    const Pair pair{path(name + ".pem"), path(name + ".key")};
    const KeyPtr key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
    write_cert(pair.cert, make(name, names, key.get(), seconds).get());
    const FilePtr file(std::fopen(pair.key.c_str(), "w"), &std::fclose);
    if (PEM_write_PrivateKey(file.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) throw std::bad_alloc();
    return pair;
  }
  void encrypt_key(const Pair& pair, const std::string& to) const {
    const FilePtr from(std::fopen(pair.key.c_str(), "r"), &std::fclose);
    const KeyPtr key(PEM_read_PrivateKey(from.get(), nullptr, nullptr, nullptr), &EVP_PKEY_free);
    const FilePtr file(std::fopen(to.c_str(), "w"), &std::fclose);
    const unsigned char secret[] = "secret";
    PEM_write_PrivateKey(file.get(), key.get(), EVP_aes_256_cbc(), secret, sizeof secret - 1, nullptr, nullptr);
  }
  static void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

 private:
  using KeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
  using CertPtr = std::unique_ptr<X509, decltype(&X509_free)>;
  using FilePtr = std::unique_ptr<FILE, decltype(&std::fclose)>;

  static void extend(X509* cert, int nid, const std::string& value) {
    const std::unique_ptr<X509_EXTENSION, decltype(&X509_EXTENSION_free)> extension(
        X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str()), &X509_EXTENSION_free);
    if (!extension || X509_add_ext(cert, extension.get(), -1) != 1) throw std::runtime_error("certificate extension");
  }

  // Without names: an authority, signed by itself.
  [[nodiscard]] CertPtr make(const std::string& name, const std::string& names, EVP_PKEY* key, long seconds) const {
    static int serial = 1;
    CertPtr cert(X509_new(), &X509_free);
    X509_set_version(cert.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), serial++);
    X509_gmtime_adj(X509_getm_notBefore(cert.get()), -24 * kHour);
    X509_gmtime_adj(X509_getm_notAfter(cert.get()), seconds);
    X509_set_pubkey(cert.get(), key);
    X509_NAME* subject = X509_get_subject_name(cert.get());
    std::string text = name;
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<unsigned char*>(text.data()), -1, -1, 0);
    X509_set_issuer_name(cert.get(), ca_ ? X509_get_subject_name(ca_.get()) : subject);
    if (names.empty()) {
      extend(cert.get(), NID_basic_constraints, "critical,CA:TRUE");
    } else {
      extend(cert.get(), NID_subject_alt_name, names);
    }
    if (X509_sign(cert.get(), key_.get(), EVP_sha256()) == 0) throw std::runtime_error("X509_sign");
    return cert;
  }
  static void write_cert(const std::string& path, X509* cert) {
    const FilePtr file(std::fopen(path.c_str(), "w"), &std::fclose);
    if (!file || PEM_write_X509(file.get(), cert) != 1) throw std::runtime_error(path);
  }

  std::string folder_;
  KeyPtr key_{nullptr, &EVP_PKEY_free};
  CertPtr ca_{nullptr, &X509_free};
};

}  // namespace nearcached::tiers::io::testing
