import com.mongodb.AutoEncryptionSettings;
import com.mongodb.ConnectionString;
import com.mongodb.MongoClientSettings;
import com.mongodb.client.MongoClients;
import com.mongodb.client.model.Filters;
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Base64;
import java.util.Map;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.bson.types.Binary;

/**
 * Reads one document as any Java program would, and prints its decrypted `content` in base64.
 *
 * <p>The driver finds data key and KMS by itself, from the encrypted value and the key vault. What it
 * has to know comes by the environment: MONGO_URI, MONGO_NAMESPACE (database.collection),
 * DOCUMENT_ID, KEY_VAULT (database.collection), CA_PEM and CLIENT_PKCS12 (files), CLIENT_PASSWORD,
 * AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.
 */
public final class Reader {
    public static void main(String[] arguments) throws Exception {
        SSLContext tls = tls(setting("CA_PEM"), setting("CLIENT_PKCS12"), setting("CLIENT_PASSWORD"));
        Map<String, Map<String, Object>> providers = Map.of(
                "aws",
                Map.of(
                        "accessKeyId", setting("AWS_ACCESS_KEY_ID"),
                        "secretAccessKey", setting("AWS_SECRET_ACCESS_KEY")));
        AutoEncryptionSettings decryption = AutoEncryptionSettings.builder()
                .keyVaultNamespace(setting("KEY_VAULT"))
                .kmsProviders(providers)
                .kmsProviderSslContextMap(Map.of("aws", tls))
                .bypassAutoEncryption(true)
                .build();
        MongoClientSettings settings = MongoClientSettings.builder()
                .applyConnectionString(new ConnectionString(setting("MONGO_URI")))
                .applyToSslSettings(ssl -> ssl.enabled(true).context(tls))
                .autoEncryptionSettings(decryption)
                .build();
        String[] namespace = setting("MONGO_NAMESPACE").split("\\.", 2);
        try (var client = MongoClients.create(settings)) {
            var found = client.getDatabase(namespace[0])
                    .getCollection(namespace[1])
                    .find(Filters.eq("_id", setting("DOCUMENT_ID")))
                    .first();
            if (found == null) {
                System.err.println("there is no such document");
                System.exit(3);
            }
            byte[] content = found.get("content", Binary.class).getData();
            System.out.println(Base64.getEncoder().encodeToString(content));
        }
    }

    /** Trusts the CA alone, and shows the client's certificate. */
    private static SSLContext tls(String caFile, String clientFile, String password) throws Exception {
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, null);
        try (var file = new FileInputStream(caFile)) {
            int number = 0;
            for (var one : CertificateFactory.getInstance("X.509").generateCertificates(file)) {
                trusted.setCertificateEntry("ca-" + number++, one);
            }
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        KeyStore own = KeyStore.getInstance("PKCS12");
        try (var file = new FileInputStream(clientFile)) {
            own.load(file, password.toCharArray());
        }
        var keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(own, password.toCharArray());
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    private static String setting(String name) {
        String value = System.getenv(name);
        if (value == null || value.isEmpty()) {
            throw new IllegalStateException(name + " is missing");
        }
        return value;
    }
}
